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

create or replace function "public"."session_create_many"(
  p_keys text[], p_hashes text[], p_users text[], p_groups text[], p_lifetimes float8[], p_idles float8[],
  p_attributes jsonb, p_bytes int[], p_expiring boolean[], p_limits float8[], p_reject boolean[],
  out at float8, out outcomes text
) language plpgsql volatile security invoker set plan_cache_mode to force_generic_plan as $session$
#variable_conflict use_column
declare
  v_outcomes text[];
  v_full boolean;
  v_held text[];
  v_evicted text[];
  v_now timestamptz;
  v_created bigint;
begin
  v_outcomes := array(select case when pg_try_advisory_xact_lock(hashtextextended('user of "public"."sessions": ' || u.name, 0)) is false then 'L' else 'C' end
    from unnest(p_users) u(name));
  v_now := date_trunc('milliseconds', clock_timestamp());
  v_full := exists (select 1 from unnest(v_outcomes, p_users, p_limits) u(outcome, name, max)
    where u.outcome = 'C' and (select count(*) from "public"."sessions" s where s.user_id = u.name) >= u.max);
  if v_full then
    v_outcomes := array(select case when u.outcome = 'C' and u.name is not null then (select case
        when count(*) < u.max then 'C'
        when not bool_and(s.live) then 'L'
        when u.reject then 'T'
        else 'C' || string_agg(s.key, ';' order by s.login, s.key) filter (where s.rank >= u.max) end
      from (select l.*, row_number() over (order by l.login desc, l.key desc) as rank
        from (select s.key, coalesce(s.authenticated_at, s.created_at) as login, (s.expires_at > v_now and (s.idle_timeout is null or s.last_accessed_at + s.idle_timeout > v_now)) as live
          from "public"."sessions" s where s.user_id = u.name) l) s) else u.outcome end
      from unnest(v_outcomes, p_users, p_limits, p_reject) u(outcome, name, max, reject));
    v_held := array(select s.key from "public"."sessions" s where s.key = any(array(select unnest(array(select e.key from unnest(v_outcomes) o(outcome), string_to_table(substr(o.outcome, 2), ';') e(key)
      where length(o.outcome) > 1)::text[]))) and s.user_id = any(array(select unnest(array(select u.name from unnest(v_outcomes, p_users) u(outcome, name) where length(u.outcome) > 1)::text[])))
      and not exists (select 1 from "public"."session_locks" l where l.session_key = s.key) for update skip locked);
    v_outcomes := array(select case when string_to_array(substr(o.outcome, 2), ';') <@ v_held then o.outcome else 'L' end
      from unnest(v_outcomes) o(outcome));
    v_evicted := array(select e.key from unnest(v_outcomes) o(outcome), string_to_table(substr(o.outcome, 2), ';') e(key)
      where length(o.outcome) > 1);
    delete from "public"."sessions" s where s.key = any(array(select unnest(v_evicted::text[])));
  end if;
  insert into "public"."sessions" (key, secret_hash, user_id, group_id, version, created_at, authenticated_at,
    last_accessed_at, expires_at, idle_timeout, attributes, attribute_bytes, attributes_expire_at)
  select i.key, i.hash, i.user_id, i.group_id, 1, v_now, case when i.user_id is not null then v_now end,
    v_now, v_now + i.lifetime * interval '1 millisecond', i.idle * interval '1 millisecond', i.stored, i.bytes,
    case when i.expiring then (select to_timestamp(min((a.value ->> 'e')::float8) / 1000) from jsonb_each(i.stored) a) end
  from (
    select i.*, case when i.expiring then (select coalesce(jsonb_object_agg(a.key, case when a.value ? 't'
      then jsonb_build_object('v', a.value -> 'v', 'n', (1)::text, 'e', (round(date_part('epoch', v_now) * 1000) + (a.value ->> 't')::float8)::bigint)
      else jsonb_build_object('v', a.value -> 'v', 'n', (1)::text) end), '{}')
    from jsonb_each(i.attributes) a) else i.attributes end as stored
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
    perform count(*) from (select pg_notify('public.sessions', '1C' || string_agg(p.item, ';'))
    from (select i.item, (row_number() over () - 1) / 180 as page from (select 'E' || e.key || '-' as item from unnest(v_evicted) e(key)) i) p
    group by p.page) n;
  end if;
  at := round(date_part('epoch', v_now) * 1000);
  outcomes := array_to_string(v_outcomes, ',');
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

create table if not exists "public"."session_locks" (
  name text collate "C" primary key,
  session_key text collate "C" references "public"."sessions" (key) on delete cascade,
  owners text[] not null default '{}',
  nodes text[] not null default '{}',
  tokens bigint[] not null default '{}',
  ends timestamptz[] not null default '{}',
  queue text[] not null default '{}'
) with (fillfactor = 50);

create index if not exists "session_locks_key_idx" on "public"."session_locks" (session_key) where session_key is not null;

create sequence if not exists "public"."session_lock_tokens" as bigint no cycle cache 1;

create or replace function "public"."session_lock_acquire"(
  p_lock text, p_session text, p_owner text, p_node text, p_permits int, p_lease float8, p_queue text, p_turn float8,
  out outcome text, out at float8, out token text, out until float8, out holder text, out retry_at float8
) language plpgsql volatile security invoker as $session$
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
    from "public"."session_locks" l where l.name = p_lock for no key update;
    exit when found;
    if p_session is not null then
      perform 1 from "public"."sessions" s where s.key = p_session and (s.expires_at > clock_timestamp() and (s.idle_timeout is null or s.last_accessed_at + s.idle_timeout > clock_timestamp())) for share;
      if not found then
        outcome := 'G';
        at := round(date_part('epoch', date_trunc('milliseconds', clock_timestamp())) * 1000);
        return;
      end if;
    end if;
    insert into "public"."session_locks" (name, session_key) values (p_lock, p_session) on conflict do nothing;
  end loop;
  v_now := date_trunc('milliseconds', clock_timestamp());
  at := round(date_part('epoch', v_now) * 1000);
  if p_session is not null
    and not exists (select 1 from "public"."sessions" s where s.key = p_session and (s.expires_at > v_now and (s.idle_timeout is null or s.last_accessed_at + s.idle_timeout > v_now))) then
    outcome := 'G';
    return;
  end if;
  for i in 1 .. cardinality(v_ends) loop
    if v_owners[i] is not null and v_ends[i] > v_now then
      if v_owners[i] = p_owner then
        outcome := 'K';
        token := v_tokens[i]::text;
        until := round(date_part('epoch', v_ends[i]) * 1000);
        return;
      end if;
      v_live := v_live + 1;
      if v_first is null or v_ends[i] < v_ends[v_first] then v_first := i; end if;
    elsif v_free is null or v_ends[i] < v_ends[v_free] then
      v_free := i;
    end if;
  end loop;
  if v_live < p_permits and (cardinality(v_queue) = 0 or v_queue[1] = p_node or cardinality(v_ends) < p_permits
    or v_now >= v_ends[v_free] + p_turn * interval '1 millisecond' or v_now < v_ends[v_free] - p_turn * interval '1 millisecond') then
    v_token := nextval('"public"."session_lock_tokens"'::regclass);
    if v_token <= any(v_tokens) then
      raise exception 'the sequence "public"."session_lock_tokens" is behind the tokens of session_locks, as when only one of them was restored or replicated: set it (setval) beyond every token that was ever granted';
    end if;
    v_free := coalesce(v_free, cardinality(v_ends) + 1);
    v_owners[v_free] := p_owner;
    v_nodes[v_free] := p_node;
    v_tokens[v_free] := v_token;
    v_ends[v_free] := v_now + p_lease * interval '1 millisecond';
    outcome := 'K';
    token := v_token::text;
    until := round(date_part('epoch', v_ends[v_free]) * 1000);
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
    if p_queue = 'waitAgain' and cardinality(v_queue) < 256 then v_queue := v_queue || p_node; end if;
    update "public"."session_locks" l set owners = v_owners, nodes = v_nodes, tokens = v_tokens, ends = v_ends, queue = v_queue
    where l.name = p_lock;
    if cardinality(v_queue) > 0 and v_live + 1 < p_permits then
      perform pg_notify('public.sessions', '1L' || v_queue[1] || chr(10) || p_lock);
    end if;
    return;
  end if;
  outcome := 'H';
  if p_queue <> 'none' and cardinality(v_queue) < 256 and p_node <> all(v_queue) then
    v_queue := v_queue || p_node;
    update "public"."session_locks" l set queue = v_queue where l.name = p_lock;
  end if;
  if v_live < p_permits then
    holder := v_queue[1];
    until := round(date_part('epoch', (v_ends[v_free] + p_turn * interval '1 millisecond')) * 1000);
    retry_at := until;
  else
    holder := v_nodes[v_first];
    until := round(date_part('epoch', v_ends[v_first]) * 1000);
    retry_at := case when v_queue[1] = p_node then until else until + p_turn end;
  end if;
end
$session$;

create or replace function "public"."session_lock_extend"(
  p_lock text, p_session text, p_owner text, p_token text, p_lease float8,
  out at float8, out until float8
) language plpgsql volatile security invoker as $session$
#variable_conflict use_column
declare
  v_owners text[];
  v_tokens bigint[];
  v_ends timestamptz[];
  v_now timestamptz;
  v_slot int;
begin
  select l.owners, l.tokens, l.ends into v_owners, v_tokens, v_ends
  from "public"."session_locks" l where l.name = p_lock for no key update;
  v_now := date_trunc('milliseconds', clock_timestamp());
  at := round(date_part('epoch', v_now) * 1000);
  v_slot := array_position(v_owners, p_owner);
  if v_slot is null or v_tokens[v_slot]::text <> p_token or v_ends[v_slot] <= v_now or p_session is not null
    and not exists (select 1 from "public"."sessions" s where s.key = p_session and (s.expires_at > v_now and (s.idle_timeout is null or s.last_accessed_at + s.idle_timeout > v_now))) then
    return;
  end if;
  if v_ends[v_slot] < v_now + p_lease * interval '1 millisecond' then
    v_ends[v_slot] := v_now + p_lease * interval '1 millisecond';
    update "public"."session_locks" l set ends = v_ends where l.name = p_lock;
  end if;
  until := round(date_part('epoch', v_ends[v_slot]) * 1000);
end
$session$;

create or replace function "public"."session_lock_release"(
  p_lock text, p_owner text,
  out at float8, out released bool
) language plpgsql volatile security invoker as $session$
#variable_conflict use_column
declare
  v_owners text[];
  v_ends timestamptz[];
  v_queue text[];
  v_now timestamptz;
  v_slot int;
begin
  select l.owners, l.ends, l.queue into v_owners, v_ends, v_queue
  from "public"."session_locks" l where l.name = p_lock for no key update;
  v_now := date_trunc('milliseconds', clock_timestamp());
  at := round(date_part('epoch', v_now) * 1000);
  released := false;
  v_slot := array_position(v_owners, p_owner);
  if v_slot is null then return; end if;
  released := v_ends[v_slot] > v_now;
  -- Nobody need wait for the disk: a release that a crash undoes leaves a lock that is free when its lease ends.
  perform set_config('synchronous_commit', 'off', true);
  v_owners[v_slot] := null;
  if released then v_ends[v_slot] := v_now; end if;
  update "public"."session_locks" l set owners = v_owners, ends = v_ends where l.name = p_lock;
  if cardinality(v_queue) > 0 then
    perform pg_notify('public.sessions', '1L' || v_queue[1] || chr(10) || p_lock);
  end if;
end
$session$;

create or replace function "public"."session_lock_leave"(
  p_lock text, p_node text,
  out removed bool
) language plpgsql volatile security invoker as $session$
#variable_conflict use_column
declare
  v_owners text[];
  v_ends timestamptz[];
  v_queue text[];
  v_first text;
begin
  select l.owners, l.ends, l.queue into v_owners, v_ends, v_queue
  from "public"."session_locks" l where l.name = p_lock for no key update;
  removed := coalesce(p_node = any(v_queue), false);
  if not removed then return; end if;
  v_first := v_queue[1];
  v_queue := array_remove(v_queue, p_node);
  update "public"."session_locks" l set queue = v_queue where l.name = p_lock;
  if v_first = p_node and cardinality(v_queue) > 0
    and (date_trunc('milliseconds', clock_timestamp()) >= any(v_ends) or array_position(v_owners, null) is not null) then
    perform pg_notify('public.sessions', '1L' || v_queue[1] || chr(10) || p_lock);
  end if;
end
$session$;

create or replace function "public"."session_write"(
  p_wait boolean, p_key text, p_proof text, p_base bigint, p_version bigint, p_expected jsonb, p_names text[], p_set jsonb,
  p_bytes int, p_expiring boolean, p_regroup boolean, p_group text, p_lifetime float8, p_reidle boolean, p_idle float8,
  p_notify boolean, p_max_bytes float8,
  out at float8, out outcome text, out version text, out mismatched text, out actual text, out bytes int,
  out session "public"."sessions"
) language plpgsql volatile security invoker as $session$
#variable_conflict use_column
declare
  v_row "public"."sessions";
  v_new "public"."sessions";
  v_now timestamptz;
  v_base jsonb;
  v_name text;
  v_actual bigint;
  v_entry jsonb;
  v_version text;
begin
  if p_wait then
    select s.* into v_row from "public"."sessions" s where s.key = p_key for no key update;
  else
    select s.* into v_row from "public"."sessions" s where s.key = p_key for no key update skip locked;
  end if;
  if v_row.key is null then
    at := round(date_part('epoch', date_trunc('milliseconds', clock_timestamp())) * 1000);
    -- There, but not locked: somebody holds it, or has just deleted it.
    outcome := case when not p_wait and exists (select 1 from "public"."sessions" s where s.key = p_key) then 'L' else 'G' end;
    return;
  end if;
  v_now := date_trunc('milliseconds', clock_timestamp());
  at := round(date_part('epoch', v_now) * 1000);
  if not (v_row.expires_at > v_now and (v_row.idle_timeout is null or v_row.last_accessed_at + v_row.idle_timeout > v_now)) or (v_row.secret_hash = p_proof or (v_row.former_hash = p_proof and v_row.former_until > v_now)) is not true then
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
    v_actual := case when coalesce((v_row.attributes -> v_name ->> 'e')::float8 > at, true)
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
    v_base := (select coalesce(jsonb_object_agg(a.key, a.value), '{}') from jsonb_each(v_row.attributes) a where coalesce((a.value ->> 'e')::float8 > at, true));
    v_new.attributes_expire_at := null;
    v_new.attribute_bytes := (select coalesce(sum(octet_length(a.key) + octet_length(a.value ->> 'v')), 0)::int from jsonb_each(v_base) a);
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
    v_new.attributes_expire_at := (select to_timestamp(min((a.value ->> 'e')::float8) / 1000) from jsonb_each(v_base) a);
  end if;
  v_new.last_accessed_at := greatest(v_row.last_accessed_at, v_now);
  if p_regroup then v_new.group_id := p_group; end if;
  if p_lifetime is not null then v_new.expires_at := v_now + p_lifetime * interval '1 millisecond'; end if;
  if p_reidle then v_new.idle_timeout := p_idle * interval '1 millisecond'; end if;
  update "public"."sessions" s set
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
    perform pg_notify('public.sessions', '1CU' || p_key || version);
  end if;
  if p_base <> v_row.version or p_lifetime is not null or p_reidle or p_regroup then session := v_new; end if;
end
$session$;

create table if not exists "public"."session_migrations" (
  migration_id integer primary key,
  created_at timestamp with time zone not null default now(),
  name text not null
);

insert into "public"."session_migrations" (migration_id, name) values (1, 'create_sessions') on conflict do nothing;

insert into "public"."session_migrations" (migration_id, name) values (2, 'create_session_locks') on conflict do nothing;

insert into "public"."session_migrations" (migration_id, name) values (3, 'create_session_write') on conflict do nothing;
