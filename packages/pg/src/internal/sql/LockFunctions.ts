/**
 * The functions behind `SessionLockStorage`, which the migrations install. They
 * are functions because each has to lock its row before it reads the clock, draws a
 * token and decides: a single statement would decide in a snapshot from before it waited, about a lock that
 * meanwhile belongs to somebody else. The token comes from a sequence under the row's lock, so that the tokens of a lock
 * grow in the order of its grants.
 *
 * Lock order: sessions, then the lock's row. Nothing is waited for while a lock's row is held. The session that a lock
 * is tied to is locked only before its row is inserted: where there is a row, its lock is enough, because the end of the
 * session has to delete it. That lock is `for share`, so that the foreign key needs no `for key share`, which is too
 * weak: it does not keep others from updating the session, and where a version of a row has both an update and such a
 * lock, those who write it wait for each other in a circle. (A statement of `Write.ts` locks the latest version, and its
 * update then comes back to the one in its snapshot.)
 *
 * Whether the session is live is asked once the lock's row is held, at a time that is read before: whoever was active
 * meanwhile is then not taken for idle.
 *
 * A lock's row keeps its tokens when it is released, because fencing compares with them. A permit that was released is
 * free whatever the clock says, which may have been set back since. Nobody is notified where nobody waits. As for names, rights and later versions of the bodies, what `Functions.ts` says holds here.
 */
import { lockHead } from "../NotificationPayload.ts"
import type { Names } from "../Names.ts"
import { dollarQuoted, interval, isLive, lateClock, literal, milliseconds } from "./Text.ts"

/** The name of the function behind `acquire`, without prefix. */
export const acquireName = "session_lock_acquire"

/** The name of the function behind `extend`, without prefix. */
export const extendName = "session_lock_extend"

/** The name of the function behind `release`, without prefix. */
export const releaseName = "session_lock_release"

/** The name of the function behind `leave`, without prefix. */
export const leaveName = "session_lock_leave"

/** How many nodes may wait in a lock's queue; more have no turn, and ask from time to time. */
const maxQueue = 256

/** Tells the first node of `v_queue`. */
const notifyFirst = (names: Names): string =>
  `perform pg_notify(${literal(names.channel)}, ${literal(lockHead)} || v_queue[1] || chr(10) || p_lock);`

/** Why nothing is granted where the next token is not larger than the last one; without percent signs, which `raise` expands. */
const tokensBehind = (names: Names): string =>
  `the sequence ${names.lockTokens} is behind the tokens of session_locks, as when only one of them was restored or replicated: set it (setval) beyond every token that was ever granted`.replaceAll(
    "%",
    "%%"
  )

/** Whether the session that the lock is tied to, if any, is live at a time; goes before `then`. */
const sessionIsGone = (names: Names, at: string): string =>
  `p_session is not null
    and not exists (select 1 from ${names.sessions} s where s.key = p_session and ${isLive("s", at)})`

const plpgsql = (body: string): string => `language plpgsql volatile security invoker as ${dollarQuoted(body)}`

const acquire = (names: Names): string =>
  `create or replace function ${names.qualified(acquireName)}(
  p_lock text, p_session text, p_owner text, p_node text, p_permits int, p_lease float8, p_queue text, p_turn float8,
  out outcome text, out at float8, out token text, out until float8, out holder text, out retry_at float8
) ${plpgsql(`
#variable_conflict use_column
declare
  v_owners text[];
  v_nodes text[];
  v_tokens bigint[];
  v_ends timestamptz[];
  v_queue text[];
  v_now timestamptz;
  v_token bigint;
  v_live int := 0;
  v_first int;
  v_free int;
begin
  loop
    select l.owners, l.nodes, l.tokens, l.ends, l.queue into v_owners, v_nodes, v_tokens, v_ends, v_queue
    from ${names.locks} l where l.name = p_lock for no key update;
    exit when found;
    if p_session is not null then
      perform 1 from ${names.sessions} s where s.key = p_session and ${isLive("s", "clock_timestamp()")} for share;
      if not found then
        outcome := 'G';
        at := ${milliseconds(lateClock)};
        return;
      end if;
    end if;
    insert into ${names.locks} (name, session_key) values (p_lock, p_session) on conflict do nothing;
  end loop;
  v_now := ${lateClock};
  at := ${milliseconds("v_now")};
  if ${sessionIsGone(names, "v_now")} then
    outcome := 'G';
    return;
  end if;
  for i in 1 .. cardinality(v_ends) loop
    if v_owners[i] is not null and v_ends[i] > v_now then
      if v_owners[i] = p_owner then
        outcome := 'K';
        token := v_tokens[i]::text;
        until := ${milliseconds("v_ends[i]")};
        return;
      end if;
      v_live := v_live + 1;
      if v_first is null or v_ends[i] < v_ends[v_first] then v_first := i; end if;
    elsif v_free is null or v_ends[i] < v_ends[v_free] then
      v_free := i;
    end if;
  end loop;
  if v_live < p_permits and (cardinality(v_queue) = 0 or v_queue[1] = p_node or cardinality(v_ends) < p_permits
    or v_now >= v_ends[v_free] + ${interval("p_turn")} or v_now < v_ends[v_free] - ${interval("p_turn")}) then
    v_token := nextval(${literal(names.lockTokens)}::regclass);
    if v_token <= any(v_tokens) then
      raise exception ${literal(tokensBehind(names))};
    end if;
    v_free := coalesce(v_free, cardinality(v_ends) + 1);
    v_owners[v_free] := p_owner;
    v_nodes[v_free] := p_node;
    v_tokens[v_free] := v_token;
    v_ends[v_free] := v_now + ${interval("p_lease")};
    outcome := 'K';
    token := v_token::text;
    until := ${milliseconds("v_ends[v_free]")};
    if cardinality(v_ends) > p_permits then
      -- There were more permits once: a former holder's token must not stay valid beside those of the present ones.
      select array_agg(u.owner), array_agg(u.node), array_agg(u.token), array_agg(u.ending)
      into v_owners, v_nodes, v_tokens, v_ends
      from (select u.* from unnest(v_owners, v_nodes, v_tokens, v_ends) u(owner, node, token, ending)
        order by u.owner is null, u.ending desc, u.token desc limit p_permits) u;
    end if;
    if cardinality(v_queue) > 0 then
      -- Who was first, but came too late for its turn, has none any more.
      if v_queue[1] <> p_node then v_queue := v_queue[2:]; end if;
      v_queue := array_remove(v_queue, p_node);
    end if;
    if p_queue = 'waitAgain' and cardinality(v_queue) < ${maxQueue} then v_queue := v_queue || p_node; end if;
    update ${names.locks} l set owners = v_owners, nodes = v_nodes, tokens = v_tokens, ends = v_ends, queue = v_queue
    where l.name = p_lock;
    if cardinality(v_queue) > 0 and v_live + 1 < p_permits then
      ${notifyFirst(names)}
    end if;
    return;
  end if;
  outcome := 'H';
  if p_queue <> 'none' and cardinality(v_queue) < ${maxQueue} and p_node <> all(v_queue) then
    v_queue := v_queue || p_node;
    update ${names.locks} l set queue = v_queue where l.name = p_lock;
  end if;
  if v_live < p_permits then
    holder := v_queue[1];
    until := ${milliseconds(`(v_ends[v_free] + ${interval("p_turn")})`)};
    retry_at := until;
  else
    holder := v_nodes[v_first];
    until := ${milliseconds("v_ends[v_first]")};
    retry_at := case when v_queue[1] = p_node then until else until + p_turn end;
  end if;
end
`)}`

const extend = (names: Names): string =>
  `create or replace function ${names.qualified(extendName)}(
  p_lock text, p_session text, p_owner text, p_token text, p_lease float8,
  out at float8, out until float8
) ${plpgsql(`
#variable_conflict use_column
declare
  v_owners text[];
  v_tokens bigint[];
  v_ends timestamptz[];
  v_now timestamptz;
  v_slot int;
begin
  select l.owners, l.tokens, l.ends into v_owners, v_tokens, v_ends
  from ${names.locks} l where l.name = p_lock for no key update;
  v_now := ${lateClock};
  at := ${milliseconds("v_now")};
  v_slot := array_position(v_owners, p_owner);
  if v_slot is null or v_tokens[v_slot]::text <> p_token or v_ends[v_slot] <= v_now or ${sessionIsGone(names, "v_now")} then
    return;
  end if;
  if v_ends[v_slot] < v_now + ${interval("p_lease")} then
    v_ends[v_slot] := v_now + ${interval("p_lease")};
    update ${names.locks} l set ends = v_ends where l.name = p_lock;
  end if;
  until := ${milliseconds("v_ends[v_slot]")};
end
`)}`

const release = (names: Names): string =>
  `create or replace function ${names.qualified(releaseName)}(
  p_lock text, p_owner text,
  out at float8, out released bool
) ${plpgsql(`
#variable_conflict use_column
declare
  v_owners text[];
  v_ends timestamptz[];
  v_queue text[];
  v_now timestamptz;
  v_slot int;
begin
  select l.owners, l.ends, l.queue into v_owners, v_ends, v_queue
  from ${names.locks} l where l.name = p_lock for no key update;
  v_now := ${lateClock};
  at := ${milliseconds("v_now")};
  released := false;
  v_slot := array_position(v_owners, p_owner);
  if v_slot is null then return; end if;
  released := v_ends[v_slot] > v_now;
  -- Nobody need wait for the disk: a release that a crash undoes leaves a lock that is free when its lease ends.
  perform set_config('synchronous_commit', 'off', true);
  v_owners[v_slot] := null;
  if released then v_ends[v_slot] := v_now; end if;
  update ${names.locks} l set owners = v_owners, ends = v_ends where l.name = p_lock;
  if cardinality(v_queue) > 0 then
    ${notifyFirst(names)}
  end if;
end
`)}`

const leave = (names: Names): string =>
  `create or replace function ${names.qualified(leaveName)}(
  p_lock text, p_node text,
  out removed bool
) ${plpgsql(`
#variable_conflict use_column
declare
  v_owners text[];
  v_ends timestamptz[];
  v_queue text[];
  v_first text;
begin
  select l.owners, l.ends, l.queue into v_owners, v_ends, v_queue
  from ${names.locks} l where l.name = p_lock for no key update;
  removed := coalesce(p_node = any(v_queue), false);
  if not removed then return; end if;
  v_first := v_queue[1];
  v_queue := array_remove(v_queue, p_node);
  update ${names.locks} l set queue = v_queue where l.name = p_lock;
  if v_first = p_node and cardinality(v_queue) > 0
    and (${lateClock} >= any(v_ends) or array_position(v_owners, null) is not null) then
    ${notifyFirst(names)}
  end if;
end
`)}`

/** The functions: name without prefix, the types of the parameters that go in, as PostgreSQL lists them, and `create or replace function`. */
export const all: ReadonlyArray<{
  readonly name: string
  readonly types: string
  readonly definition: (names: Names) => string
}> = [
  {
    name: acquireName,
    types: "text, text, text, text, integer, double precision, text, double precision",
    definition: acquire
  },
  { name: extendName, types: "text, text, text, text, double precision", definition: extend },
  { name: releaseName, types: "text, text", definition: release },
  { name: leaveName, types: "text, text", definition: leave }
]
