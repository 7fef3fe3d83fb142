/**
 * The functions behind `create` and `rotate`, which the migrations install. They
 * are functions because they take the user's advisory lock first, and each later
 * query in a volatile function sees what was committed while it waited: a single
 * statement would count sessions in a snapshot from before the wait, and the
 * limit could be exceeded.
 *
 * Lock order: the user's advisory lock, then sessions by key. Only who holds the
 * advisory lock of a user can give that user another session, so that a count
 * below the limit needs no further lock. Every name in the bodies is qualified,
 * and they run with the rights of the caller. A later version of the library that
 * needs another body gives the function another name, because nodes of both
 * versions use the same database during a deployment.
 */
import type { Names } from "../Names.ts"
import {
  dollarQuoted,
  earliestExpiry,
  interval,
  isLive,
  isProven,
  lastingAttributes,
  lateClock,
  literal,
  milliseconds,
  notifyChanges,
  sizeOf,
  sizeOfNamed,
  stamped
} from "./Text.ts"

/** The name of the function behind `create`, without prefix. */
export const createName = "session_create"

/** The name of the function behind `rotate`, without prefix. */
export const rotateName = "session_rotate"

/** The types of {@link createName}'s parameters, as PostgreSQL lists them. */
export const createTypes =
  "text, text, text, text, double precision, double precision, jsonb, integer, double precision, boolean"

/** The types of {@link rotateName}'s parameters, as PostgreSQL lists them. */
export const rotateTypes =
  "text, text, text, double precision, text, double precision, double precision, double precision, boolean, jsonb, text[], integer, double precision"

/** The number of the advisory lock that serializes those who might add a session to a user. */
export const userLock = (names: Names, user: string): string =>
  `hashtextextended(${literal(`user of ${names.sessions}: `)} || ${user}, 0)`

const lockUser = (names: Names, user: string): string => `perform pg_advisory_xact_lock(${userLock(names, user)});`

/** Ends the user's oldest sessions until there is room for one more, or answers 'T'. Needs `v_now` and the rows' locks. */
const makeRoom = (names: Names, others: string): string =>
  `v_live := array(
      select s.key from ${names.sessions} s where ${others} and ${isLive("s", "v_now")}
      order by coalesce(s.authenticated_at, s.created_at), s.key);
    if cardinality(v_live) >= p_max then
      if p_reject then
        return query select 'T'::text, v_now, null::int, v_evicted, null::${names.sessions};
        return;
      end if;
      v_evicted := v_live[1:(cardinality(v_live) + 1 - p_max)::int];
      delete from ${names.sessions} s where s.key = any(v_evicted);
    end if;`

const answer = (names: Names): string =>
  `returns table (outcome text, at timestamptz, bytes int, evicted text[], session ${names.sessions})
language plpgsql volatile security invoker as `

const evictedItems = "select 'E' || e.key || '-' as item from unnest(v_evicted) e(key)"

/** `create or replace function` for {@link createName}. */
export const create = (names: Names): string =>
  `create or replace function ${names.qualified(createName)}(
  p_key text, p_secret_hash text, p_user text, p_group text, p_lifetime float8, p_idle float8,
  p_set jsonb, p_bytes int, p_max float8, p_reject boolean
) ${answer(names)}${dollarQuoted(`
#variable_conflict use_column
declare
  v_now timestamptz;
  v_full boolean := false;
  v_live text[];
  v_evicted text[] := '{}';
  v_attributes jsonb;
  v_session ${names.sessions};
begin
  if p_user is not null then
    ${lockUser(names, "p_user")}
    v_full := (select count(*) from ${names.sessions} s where s.user_id = p_user) >= p_max;
    if v_full then
      perform 1 from ${names.sessions} s where s.user_id = p_user order by s.key for update;
    end if;
  end if;
  v_now := ${lateClock};
  if v_full then
    ${makeRoom(names, "s.user_id = p_user")}
  end if;
  v_attributes := ${stamped("p_set", "1", milliseconds("v_now"))};
  insert into ${names.sessions} as s (key, secret_hash, user_id, group_id, version, created_at, authenticated_at,
    last_accessed_at, expires_at, idle_timeout, attributes, attribute_bytes, attributes_expire_at)
  values (p_key, p_secret_hash, p_user, p_group, 1, v_now, case when p_user is not null then v_now end,
    v_now, v_now + ${interval("p_lifetime")}, ${interval("p_idle")}, v_attributes, p_bytes, ${earliestExpiry("v_attributes")})
  returning s.* into v_session;
  perform count(*) from (${notifyChanges(names.channel, evictedItems)}) n;
  return query select 'C'::text, v_now, null::int, v_evicted, v_session;
end
`)}`

/** `create or replace function` for {@link rotateName}. */
export const rotate = (names: Names): string =>
  `create or replace function ${names.qualified(rotateName)}(
  p_key text, p_proof text, p_secret_hash text, p_grace float8,
  p_user text, p_lifetime float8, p_idle float8, p_max float8, p_reject boolean,
  p_set jsonb, p_names text[], p_bytes int, p_max_bytes float8
) ${answer(names)}${dollarQuoted(`
#variable_conflict use_column
declare
  v_now timestamptz;
  v_ms float8;
  v_full boolean := false;
  v_changes boolean;
  v_base jsonb;
  v_attributes jsonb;
  v_bytes int;
  v_live text[];
  v_evicted text[] := '{}';
  v_session ${names.sessions};
begin
  if p_user is not null then
    ${lockUser(names, "p_user")}
    v_full := (select count(*) from ${names.sessions} s where s.user_id = p_user and s.key <> p_key) >= p_max;
  end if;
  if v_full then
    perform 1 from ${names.sessions} s where s.key = p_key or s.user_id = p_user order by s.key for update;
  else
    perform 1 from ${names.sessions} s where s.key = p_key for no key update;
  end if;
  v_now := ${lateClock};
  v_ms := ${milliseconds("v_now")};
  select s.* into v_session from ${names.sessions} s where s.key = p_key;
  if not found or not ${isLive("v_session", "v_now")} or ${isProven("v_session", "p_proof", "v_now")} is not true then
    return query select 'G'::text, v_now, null::int, v_evicted, null::${names.sessions};
    return;
  end if;
  v_changes := p_user is not null and p_user is distinct from v_session.user_id;
  v_base := case
    when v_changes and v_session.user_id is not null then '{}'
    when v_session.attributes_expire_at <= v_now then ${lastingAttributes("v_session.attributes", "v_ms")}
    else v_session.attributes end;
  v_bytes := ${sizeOf("v_base")} - ${sizeOfNamed("v_base", "p_names")} + p_bytes;
  if v_bytes > p_max_bytes then
    return query select 'B'::text, v_now, v_bytes, v_evicted, null::${names.sessions};
    return;
  end if;
  if v_changes and v_full then
    ${makeRoom(names, "s.user_id = p_user and s.key <> p_key")}
  end if;
  v_attributes := (v_base - p_names) || ${stamped("p_set", "v_session.version + 1", "v_ms")};
  update ${names.sessions} s set
    secret_hash = p_secret_hash,
    former_hash = v_session.secret_hash,
    former_until = v_now + ${interval("(case when v_changes then 0 else p_grace end)")},
    user_id = coalesce(p_user, v_session.user_id),
    version = v_session.version + 1,
    authenticated_at = case when p_user is not null then v_now else v_session.authenticated_at end,
    last_accessed_at = greatest(v_session.last_accessed_at, v_now),
    expires_at = case when p_user is not null then v_now + ${interval("p_lifetime")} else v_session.expires_at end,
    idle_timeout = case when p_user is not null then ${interval("p_idle")} else v_session.idle_timeout end,
    attributes = v_attributes,
    attribute_bytes = v_bytes,
    attributes_expire_at = ${earliestExpiry("v_attributes")}
  where s.key = p_key
  returning s.* into v_session;
  perform count(*) from (${notifyChanges(
    names.channel,
    `select 'R' || v_session.key || v_session.version as item union all ${evictedItems}`
  )}) n;
  return query select 'R'::text, v_now, null::int, v_evicted, v_session;
end
`)}`
