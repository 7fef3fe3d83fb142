create schema if not exists "public";

create table if not exists "public"."sessions" (
  key text collate "C" primary key,
  secret_hash text not null,
  former_hash text,
  former_until timestamptz,
  user_id text collate "C",
  group_id text collate "C",
  version bigint not null,
  created_at timestamptz not null,
  authenticated_at timestamptz,
  last_accessed_at timestamptz not null,
  expires_at timestamptz not null,
  idle_timeout interval,
  attributes jsonb not null default '{}',
  attribute_bytes integer not null default 0,
  attributes_expire_at timestamptz
) with (fillfactor = 70);

create index if not exists "sessions_user_id_idx" on "public"."sessions" (user_id) where user_id is not null;

create index if not exists "sessions_group_id_idx" on "public"."sessions" (group_id) where group_id is not null;

create table if not exists "public"."session_beats" (
  node text collate "C" primary key,
  beat_at timestamptz not null
) with (fillfactor = 10);

create or replace function "public"."session_create"(
  p_key text, p_secret_hash text, p_user text, p_group text, p_lifetime float8, p_idle float8,
  p_set jsonb, p_bytes int, p_max float8, p_reject boolean
) returns table (outcome text, at timestamptz, bytes int, evicted text[], session "public"."sessions")
language plpgsql volatile security invoker as $session$
#variable_conflict use_column
declare
  v_now timestamptz;
  v_full boolean := false;
  v_live text[];
  v_evicted text[] := '{}';
  v_attributes jsonb;
  v_session "public"."sessions";
begin
  if p_user is not null then
    perform pg_advisory_xact_lock(hashtextextended('user of "public"."sessions": ' || p_user, 0));
    v_full := (select count(*) from "public"."sessions" s where s.user_id = p_user) >= p_max;
    if v_full then
      perform 1 from "public"."sessions" s where s.user_id = p_user order by s.key for update;
    end if;
  end if;
  v_now := date_trunc('milliseconds', clock_timestamp());
  if v_full then
    v_live := array(
      select s.key from "public"."sessions" s where s.user_id = p_user and (s.expires_at > v_now and (s.idle_timeout is null or s.last_accessed_at + s.idle_timeout > v_now))
      order by coalesce(s.authenticated_at, s.created_at), s.key);
    if cardinality(v_live) >= p_max then
      if p_reject then
        return query select 'T'::text, v_now, null::int, v_evicted, null::"public"."sessions";
        return;
      end if;
      v_evicted := v_live[1:(cardinality(v_live) + 1 - p_max)::int];
      delete from "public"."sessions" s where s.key = any(v_evicted);
    end if;
  end if;
  v_attributes := (select coalesce(jsonb_object_agg(a.key, case when a.value ? 't'
      then jsonb_build_object('v', a.value -> 'v', 'n', (1)::text, 'e', (round(date_part('epoch', v_now) * 1000) + (a.value ->> 't')::float8)::bigint)
      else jsonb_build_object('v', a.value -> 'v', 'n', (1)::text) end), '{}')
    from jsonb_each(p_set) a);
  insert into "public"."sessions" as s (key, secret_hash, user_id, group_id, version, created_at, authenticated_at,
    last_accessed_at, expires_at, idle_timeout, attributes, attribute_bytes, attributes_expire_at)
  values (p_key, p_secret_hash, p_user, p_group, 1, v_now, case when p_user is not null then v_now end,
    v_now, v_now + p_lifetime * interval '1 millisecond', p_idle * interval '1 millisecond', v_attributes, p_bytes, (select to_timestamp(min((a.value ->> 'e')::float8) / 1000) from jsonb_each(v_attributes) a))
  returning s.* into v_session;
  perform count(*) from (select pg_notify('public.sessions', '1C' || string_agg(p.item, ';'))
    from (select i.item, (row_number() over () - 1) / 180 as page from (select 'E' || e.key || '-' as item from unnest(v_evicted) e(key)) i) p
    group by p.page) n;
  return query select 'C'::text, v_now, null::int, v_evicted, v_session;
end
$session$;

create or replace function "public"."session_rotate"(
  p_key text, p_proof text, p_secret_hash text, p_grace float8,
  p_user text, p_lifetime float8, p_idle float8, p_max float8, p_reject boolean,
  p_set jsonb, p_names text[], p_bytes int, p_max_bytes float8
) returns table (outcome text, at timestamptz, bytes int, evicted text[], session "public"."sessions")
language plpgsql volatile security invoker as $session$
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
  v_session "public"."sessions";
begin
  if p_user is not null then
    perform pg_advisory_xact_lock(hashtextextended('user of "public"."sessions": ' || p_user, 0));
    v_full := (select count(*) from "public"."sessions" s where s.user_id = p_user and s.key <> p_key) >= p_max;
  end if;
  if v_full then
    perform 1 from "public"."sessions" s where s.key = p_key or s.user_id = p_user order by s.key for update;
  else
    perform 1 from "public"."sessions" s where s.key = p_key for no key update;
  end if;
  v_now := date_trunc('milliseconds', clock_timestamp());
  v_ms := round(date_part('epoch', v_now) * 1000);
  select s.* into v_session from "public"."sessions" s where s.key = p_key;
  if not found or not (v_session.expires_at > v_now and (v_session.idle_timeout is null or v_session.last_accessed_at + v_session.idle_timeout > v_now)) or (v_session.secret_hash = p_proof or (v_session.former_hash = p_proof and v_session.former_until > v_now)) is not true then
    return query select 'G'::text, v_now, null::int, v_evicted, null::"public"."sessions";
    return;
  end if;
  v_changes := p_user is not null and p_user is distinct from v_session.user_id;
  v_base := case
    when v_changes and v_session.user_id is not null then '{}'
    when v_session.attributes_expire_at <= v_now then (select coalesce(jsonb_object_agg(a.key, a.value), '{}') from jsonb_each(v_session.attributes) a where coalesce((a.value ->> 'e')::float8 > v_ms, true))
    else v_session.attributes end;
  v_bytes := (select coalesce(sum(octet_length(a.key) + octet_length(a.value ->> 'v')), 0)::int from jsonb_each(v_base) a) - (select coalesce(sum(octet_length(n) + octet_length(v_base -> n ->> 'v')), 0)::int from unnest(p_names) n where v_base ? n) + p_bytes;
  if v_bytes > p_max_bytes then
    return query select 'B'::text, v_now, v_bytes, v_evicted, null::"public"."sessions";
    return;
  end if;
  if v_changes and v_full then
    v_live := array(
      select s.key from "public"."sessions" s where s.user_id = p_user and s.key <> p_key and (s.expires_at > v_now and (s.idle_timeout is null or s.last_accessed_at + s.idle_timeout > v_now))
      order by coalesce(s.authenticated_at, s.created_at), s.key);
    if cardinality(v_live) >= p_max then
      if p_reject then
        return query select 'T'::text, v_now, null::int, v_evicted, null::"public"."sessions";
        return;
      end if;
      v_evicted := v_live[1:(cardinality(v_live) + 1 - p_max)::int];
      delete from "public"."sessions" s where s.key = any(v_evicted);
    end if;
  end if;
  v_attributes := (v_base - p_names) || (select coalesce(jsonb_object_agg(a.key, case when a.value ? 't'
      then jsonb_build_object('v', a.value -> 'v', 'n', (v_session.version + 1)::text, 'e', (v_ms + (a.value ->> 't')::float8)::bigint)
      else jsonb_build_object('v', a.value -> 'v', 'n', (v_session.version + 1)::text) end), '{}')
    from jsonb_each(p_set) a);
  update "public"."sessions" s set
    secret_hash = p_secret_hash,
    former_hash = v_session.secret_hash,
    former_until = v_now + (case when v_changes then 0 else p_grace end) * interval '1 millisecond',
    user_id = coalesce(p_user, v_session.user_id),
    version = v_session.version + 1,
    authenticated_at = case when p_user is not null then v_now else v_session.authenticated_at end,
    last_accessed_at = greatest(v_session.last_accessed_at, v_now),
    expires_at = case when p_user is not null then v_now + p_lifetime * interval '1 millisecond' else v_session.expires_at end,
    idle_timeout = case when p_user is not null then p_idle * interval '1 millisecond' else v_session.idle_timeout end,
    attributes = v_attributes,
    attribute_bytes = v_bytes,
    attributes_expire_at = (select to_timestamp(min((a.value ->> 'e')::float8) / 1000) from jsonb_each(v_attributes) a)
  where s.key = p_key
  returning s.* into v_session;
  perform count(*) from (select pg_notify('public.sessions', '1C' || string_agg(p.item, ';'))
    from (select i.item, (row_number() over () - 1) / 180 as page from (select 'R' || v_session.key || v_session.version as item union all select 'E' || e.key || '-' as item from unnest(v_evicted) e(key)) i) p
    group by p.page) n;
  return query select 'R'::text, v_now, null::int, v_evicted, v_session;
end
$session$;

create table if not exists "public"."session_migrations" (
  migration_id integer primary key,
  created_at timestamp with time zone not null default now(),
  name text not null
);

insert into "public"."session_migrations" (migration_id, name) values (1, 'create_sessions') on conflict do nothing;
