/**
 * A `write` or `tryWrite` of one change: a function, which the migrations install,
 * that does what the statement of `Write.ts` does for many, with a fraction of its
 * work, because nothing has to be joined. Whatever one of them answers for a change
 * the other one answers, too.
 *
 * The row is locked first, and the clock is read after that; each later query of a
 * volatile function sees what was committed until then.
 */
import type { WriteRequest } from "@effect-pg-session/core"
import type { Parameter } from "../Database.ts"
import type { Names } from "../Names.ts"
import { changesHead, letterOf } from "../NotificationPayload.ts"
import * as Attributes from "./Attributes.ts"
import * as Columns from "./Columns.ts"
import {
  dollarQuoted,
  duration,
  earliestExpiry,
  interval,
  isLasting,
  isLive,
  isProven,
  lastingAttributes,
  lateClock,
  literal,
  milliseconds,
  numeric,
  sizeOf,
  textArray
} from "./Text.ts"

/** What is done about a row that somebody else has locked: wait for it, or leave it and answer 'L'. */
export type Locked = "wait" | "skip"

/** The name of the function, without prefix. */
export const writeName = "session_write"

/** The types of its parameters, as PostgreSQL lists them. */
export const writeTypes =
  "boolean, text, text, bigint, bigint, jsonb, text[], jsonb, integer, boolean, boolean, text, double precision, boolean, double precision, boolean, double precision"

/** Calls the function; the columns are those of `Write.ts`. */
export const sql = (names: Names): string => {
  // Only text goes in; the JSON is parsed by the statement.
  const parameters = writeTypes
    .split(", ")
    .map((type, index) => `$${index + 1}::${type === "jsonb" ? "text::jsonb" : type}`)
  return `select f.at, 0, f.outcome, f.version, f.mismatched, f.actual, f.bytes, ${Columns.sessionColumns((column) => `(f.session).${column}`)}
from ${names.qualified(writeName)}(${parameters.join(", ")}) f`
}

/** What {@link sql} takes. */
export const parameters = (request: WriteRequest, locked: Locked): ReadonlyArray<Parameter> => {
  const { bytes, expiring, names, set } = Attributes.changes(request.set, request.remove)
  const { expectedAttributes, groupId, idleTimeout, lifetime } = request
  return [
    locked === "wait",
    request.key,
    request.proof,
    String(request.baseVersion),
    request.expectedVersion === undefined ? null : String(request.expectedVersion),
    expectedAttributes.length === 0
      ? null
      : JSON.stringify(expectedAttributes.map(([name, version]) => [name, String(version)])),
    names.length === 0 ? null : textArray(names),
    set,
    bytes,
    expiring,
    groupId !== undefined,
    groupId ?? null,
    numeric(lifetime === undefined ? undefined : duration(lifetime)),
    idleTimeout !== undefined,
    numeric(idleTimeout === undefined || idleTimeout === null ? undefined : duration(idleTimeout)),
    request.notify,
    Number.isFinite(request.maxBytes) ? String(request.maxBytes) : null
  ]
}

/** `create or replace function` for {@link writeName}. */
export const write = (names: Names): string =>
  `create or replace function ${names.qualified(writeName)}(
  p_wait boolean, p_key text, p_proof text, p_base bigint, p_version bigint, p_expected jsonb, p_names text[], p_set jsonb,
  p_bytes int, p_expiring boolean, p_regroup boolean, p_group text, p_lifetime float8, p_reidle boolean, p_idle float8,
  p_notify boolean, p_max_bytes float8,
  out at float8, out outcome text, out version text, out mismatched text, out actual text, out bytes int,
  out session ${names.sessions}
) language plpgsql volatile security invoker as ${dollarQuoted(`
#variable_conflict use_column
declare
  v_row ${names.sessions};
  v_new ${names.sessions};
  v_now timestamptz;
  v_base jsonb;
  v_name text;
  v_actual bigint;
  v_entry jsonb;
  v_version text;
begin
  if p_wait then
    select s.* into v_row from ${names.sessions} s where s.key = p_key for no key update;
  else
    select s.* into v_row from ${names.sessions} s where s.key = p_key for no key update skip locked;
  end if;
  if v_row.key is null then
    at := ${milliseconds(lateClock)};
    -- There, but not locked: somebody holds it, or has just deleted it.
    outcome := case when not p_wait and exists (select 1 from ${names.sessions} s where s.key = p_key) then 'L' else 'G' end;
    return;
  end if;
  v_now := ${lateClock};
  at := ${milliseconds("v_now")};
  if not ${isLive("v_row", "v_now")} or ${isProven("v_row", "p_proof", "v_now")} is not true then
    outcome := 'G';
    return;
  end if;
  if p_version <> v_row.version then
    outcome := 'V';
    session := v_row;
    return;
  end if;
  for i in 0 .. coalesce(jsonb_array_length(p_expected), 0) - 1 loop
    v_name := p_expected -> i ->> 0;
    v_actual := case when ${isLasting("v_row.attributes -> v_name", "at")}
      then coalesce((v_row.attributes -> v_name ->> 'n')::bigint, 0) else 0 end;
    if v_actual <> (p_expected -> i ->> 1)::bigint then
      outcome := 'A';
      mismatched := v_name;
      actual := v_actual::text;
      session := v_row;
      return;
    end if;
  end loop;
  v_new := v_row;
  v_version := (v_row.version + 1)::text;
  v_base := v_row.attributes;
  if v_row.attributes_expire_at <= v_now then
    v_base := ${lastingAttributes("v_row.attributes", "at")};
    v_new.attributes_expire_at := null;
    v_new.attribute_bytes := ${sizeOf("v_base")};
  end if;
  if p_names is not null then
    -- One by one, in expressions that need no executor.
    v_new.attribute_bytes := v_new.attribute_bytes + p_bytes;
    foreach v_name in array p_names loop
      v_entry := v_base -> v_name;
      if v_entry is not null then
        v_new.attribute_bytes := v_new.attribute_bytes - octet_length(v_name) - octet_length(v_entry ->> 'v');
      end if;
    end loop;
    v_base := v_base - p_names;
    foreach v_name in array p_names loop
      v_entry := p_set -> v_name;
      if v_entry is not null then
        v_entry := case when v_entry ? 't'
          then jsonb_build_object('v', v_entry -> 'v', 'n', v_version, 'e', (at + (v_entry ->> 't')::float8)::bigint)
          else jsonb_build_object('v', v_entry -> 'v', 'n', v_version) end;
        v_base := v_base || jsonb_build_object(v_name, v_entry);
      end if;
    end loop;
  end if;
  if v_new.attribute_bytes > p_max_bytes then
    outcome := 'B';
    bytes := v_new.attribute_bytes;
    return;
  end if;
  v_new.attributes := v_base;
  v_new.version := v_row.version + 1;
  if p_expiring or v_row.attributes_expire_at is not null then
    v_new.attributes_expire_at := ${earliestExpiry("v_base")};
  end if;
  v_new.last_accessed_at := greatest(v_row.last_accessed_at, v_now);
  if p_regroup then v_new.group_id := p_group; end if;
  if p_lifetime is not null then v_new.expires_at := v_now + ${interval("p_lifetime")}; end if;
  if p_reidle then v_new.idle_timeout := ${interval("p_idle")}; end if;
  update ${names.sessions} s set
    version = v_new.version,
    last_accessed_at = v_new.last_accessed_at,
    group_id = v_new.group_id,
    expires_at = v_new.expires_at,
    idle_timeout = v_new.idle_timeout,
    attributes = v_new.attributes,
    attribute_bytes = v_new.attribute_bytes,
    attributes_expire_at = v_new.attributes_expire_at
  where s.key = p_key;
  if not found then
    -- Something in the database (a trigger, a policy) kept the row from being changed.
    outcome := 'G';
    return;
  end if;
  outcome := 'K';
  version := v_new.version::text;
  if p_notify or v_new.expires_at < v_row.expires_at or v_new.group_id is distinct from v_row.group_id
    or v_new.idle_timeout < v_row.idle_timeout or (v_row.idle_timeout is null and v_new.idle_timeout is not null) then
    perform pg_notify(${literal(names.channel)}, ${literal(changesHead + letterOf.Updated)} || p_key || version);
  end if;
  if p_base <> v_row.version or p_lifetime is not null or p_reidle or p_regroup then session := v_new; end if;
end
`)}`
