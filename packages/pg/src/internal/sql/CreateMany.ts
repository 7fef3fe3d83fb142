/**
 * The function behind `tryCreate`: sessions of different users, created in one
 * round trip and one commit.
 *
 * It waits for no lock: what it cannot have at once (a user whom somebody else is giving a
 * session, a session that would have to end for the new one) or would wait for (the locks that end with such a session) it leaves undone, so
 * that nobody can be stuck behind it, or it behind anybody, in whatever order locks are taken. Only a key that somebody
 * else is inserting is waited for, which keys that are drawn at random never are;
 * that is done last, in the order of the keys.
 *
 * It is a function for the same reason as `create`'s: each of its queries sees what
 * was committed before its locks were had. It answers neither the sessions nor their
 * attributes, which the caller has. Its plans are generic ones, because short arrays would be planned anew each time.
 */
import type { Answer, CreateRequest, SessionRow, TryCreateOutcome } from "@effect-pg-session/core"
import type { Parameter, Row } from "../Database.ts"
import type { Names } from "../Names.ts"
import * as Attributes from "./Attributes.ts"
import * as Columns from "./Columns.ts"
import { userLock } from "./Functions.ts"
import {
  among,
  dollarQuoted,
  duration,
  earliestExpiry,
  firstRow,
  interval,
  isLive,
  lateClock,
  milliseconds,
  notifyChanges,
  stamped,
  textArray,
  unexpected
} from "./Text.ts"

/** The function's name, without prefix. */
export const functionName = "session_create_many"

/** The types of its parameters, as PostgreSQL lists them. */
export const types =
  "text[], text[], text[], text[], double precision[], double precision[], jsonb, integer[], boolean[], double precision[], boolean[]"

/**
 * What becomes of the login `u` of a user who may be full. The user's sessions are not locked for that: who is ending one of them
 * meanwhile comes after this. But one that seems to have expired may have been active, which only its lock would tell.
 */
const verdict = (names: Names): string =>
  `(select case
        when count(*) < u.max then 'C'
        when not bool_and(s.live) then 'L'
        when u.reject then 'T'
        else 'C' || string_agg(s.key, ';' order by s.login, s.key) filter (where s.rank >= u.max) end
      from (select l.*, row_number() over (order by l.login desc, l.key desc) as rank
        from (select s.key, coalesce(s.authenticated_at, s.created_at) as login, ${isLive("s", "v_now")} as live
          from ${names.sessions} s where s.user_id = u.name) l) s)`

/** The keys that end, as the outcomes say. */
const evicted = `array(select e.key from unnest(v_outcomes) o(outcome), string_to_table(substr(o.outcome, 2), ';') e(key)
      where length(o.outcome) > 1)`

/**
 * The users whose sessions end. A session may have become another user's since it was chosen, whose lock is not this transaction's; to one of
 * these nobody can have brought it.
 */
const losers = "array(select u.name from unnest(v_outcomes, p_users) u(outcome, name) where length(u.outcome) > 1)"

/** `create or replace function`. One outcome per session: done ('C', and the keys that ended for it), refused ('T'), left undone ('L'). */
export const definition = (names: Names): string =>
  `create or replace function ${names.qualified(functionName)}(
  p_keys text[], p_hashes text[], p_users text[], p_groups text[], p_lifetimes float8[], p_idles float8[],
  p_attributes jsonb, p_bytes int[], p_expiring boolean[], p_limits float8[], p_reject boolean[],
  out at float8, out outcomes text
) language plpgsql volatile security invoker set plan_cache_mode to force_generic_plan as ${dollarQuoted(`
#variable_conflict use_column
declare
  v_outcomes text[];
  v_full boolean;
  v_held text[];
  v_evicted text[];
  v_now timestamptz;
  v_created bigint;
begin
  v_outcomes := array(select case when pg_try_advisory_xact_lock(${userLock(names, "u.name")}) is false then 'L' else 'C' end
    from unnest(p_users) u(name));
  v_now := ${lateClock};
  v_full := exists (select 1 from unnest(v_outcomes, p_users, p_limits) u(outcome, name, max)
    where u.outcome = 'C' and (select count(*) from ${names.sessions} s where s.user_id = u.name) >= u.max);
  if v_full then
    v_outcomes := array(select case when u.outcome = 'C' and u.name is not null then ${verdict(names)} else u.outcome end
      from unnest(v_outcomes, p_users, p_limits, p_reject) u(outcome, name, max, reject));
    v_held := array(select s.key from ${names.sessions} s where s.key = ${among(evicted)} and s.user_id = ${among(losers)}
      and not exists (select 1 from ${names.locks} l where l.session_key = s.key) for update skip locked);
    v_outcomes := array(select case when string_to_array(substr(o.outcome, 2), ';') <@ v_held then o.outcome else 'L' end
      from unnest(v_outcomes) o(outcome));
    v_evicted := ${evicted};
    delete from ${names.sessions} s where s.key = ${among("v_evicted")};
  end if;
  insert into ${names.sessions} (key, secret_hash, user_id, group_id, version, created_at, authenticated_at,
    last_accessed_at, expires_at, idle_timeout, attributes, attribute_bytes, attributes_expire_at)
  select i.key, i.hash, i.user_id, i.group_id, 1, v_now, case when i.user_id is not null then v_now end,
    v_now, v_now + ${interval("i.lifetime")}, ${interval("i.idle")}, i.stored, i.bytes,
    case when i.expiring then ${earliestExpiry("i.stored")} end
  from (
    select i.*, case when i.expiring then ${stamped("i.attributes", "1", milliseconds("v_now"))} else i.attributes end as stored
    from rows from (
      unnest(v_outcomes), unnest(p_keys), unnest(p_hashes), unnest(p_users), unnest(p_groups), unnest(p_lifetimes),
      unnest(p_idles), jsonb_array_elements(p_attributes), unnest(p_bytes), unnest(p_expiring)
    ) i(outcome, key, hash, user_id, group_id, lifetime, idle, attributes, bytes, expiring)
    where i.outcome like 'C%'
  ) i order by i.key collate "C";
  get diagnostics v_created = row_count;
  if v_created <> cardinality(p_keys) - cardinality(array_positions(v_outcomes, 'L')) - cardinality(array_positions(v_outcomes, 'T')) then
    raise exception 'a session was not inserted';
  end if;
  if cardinality(v_evicted) > 0 then
    perform count(*) from (${notifyChanges(names.channel, "select 'E' || e.key || '-' as item from unnest(v_evicted) e(key)")}) n;
  end if;
  at := ${milliseconds("v_now")};
  outcomes := array_to_string(v_outcomes, ',');
end
`)}`

export const sql = (names: Names): string => {
  const parameters = types.split(", ").map((type, index) => `$${index + 1}::${type === "jsonb" ? "text::jsonb" : type}`)
  return `select f.at, f.outcomes from ${names.qualified(functionName)}(${parameters.join(", ")}) f`
}

export const parameters = (requests: ReadonlyArray<CreateRequest>): ReadonlyArray<Parameter> => {
  const attributes: Array<string> = []
  const bytes: Array<number> = []
  const expiring: Array<boolean> = []
  for (const { attributes: writes } of requests) {
    const stored = Attributes.patch(writes, [], 1n)
    attributes.push(stored.expiring ? Attributes.changes(writes, []).set : stored.text)
    bytes.push(stored.bytes)
    expiring.push(stored.expiring)
  }
  return [
    plainArray(requests.map(({ key }) => key)),
    plainArray(requests.map(({ secretHash }) => secretHash)),
    textArray(requests.map(({ userId }) => userId)),
    textArray(requests.map(({ groupId }) => groupId)),
    plainArray(requests.map(({ lifetime }) => duration(lifetime))),
    plainArray(requests.map(({ idleTimeout }) => (idleTimeout === undefined ? "NULL" : duration(idleTimeout)))),
    `[${attributes.join(",")}]`,
    plainArray(bytes),
    plainArray(expiring),
    // At least the new session itself fits.
    plainArray(requests.map(({ limit: { max } }) => (max >= 1 ? Math.trunc(max) : 1))),
    plainArray(requests.map(({ limit: { onLimit } }) => onLimit === "reject"))
  ]
}

/** An array of what needs no quotes: keys, hashes, numbers and booleans. */
const plainArray = (values: ReadonlyArray<string | number | boolean>): string => `{${values.join(",")}}`

export const decode = (
  rows: ReadonlyArray<Row>,
  requests: ReadonlyArray<CreateRequest>
): Answer & { readonly outcomes: ReadonlyArray<TryCreateOutcome> } => {
  const row = firstRow(rows)
  const now = Columns.number(row[0])
  const outcomes = Columns.text(row[1]).split(",")
  return { now, outcomes: requests.map((request, index) => outcome(request, outcomes[index] ?? "", now)) }
}

const outcome = (request: CreateRequest, answer: string, now: number): TryCreateOutcome => {
  switch (answer.slice(0, 1)) {
    case "C":
      return {
        _tag: "Created",
        row: created(request, now),
        evicted: Columns.evicted(answer.slice(1), request.userId)
      }
    case "T":
      return { _tag: "TooManySessions" }
    case "L":
      return { _tag: "Undone" }
    default:
      return unexpected("outcome")
  }
}

const created = (request: CreateRequest, now: number): SessionRow => ({
  key: request.key,
  secretHash: request.secretHash,
  formerHash: undefined,
  formerUntil: undefined,
  userId: request.userId,
  groupId: request.groupId,
  version: 1n,
  createdAt: now,
  authenticatedAt: request.userId === undefined ? undefined : now,
  lastAccessedAt: now,
  expiresAt: now + duration(request.lifetime),
  idleTimeout: request.idleTimeout === undefined ? undefined : duration(request.idleTimeout),
  attributes: Attributes.ofNew(request.attributes, now)
})
