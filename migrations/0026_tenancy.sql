-- Row-level security (design §5), enabled and forced on every table: `posto_worker` sees all it is
-- granted, `posto_reader` what its transaction says it may, nobody else anything.

-- Whose rows this transaction may see as `posto_reader`: `{1,2}`, or `*` for the agency itself. Set
-- inside the transaction, never for a session; unset is nobody's.
create function hub_tenants() returns bigint[] language sql stable parallel safe as $$
    select case when current_setting('hub.tenants', true) like '{%'
                then current_setting('hub.tenants', true)::bigint[] else '{}' end
$$;
create function hub_agency() returns boolean language sql stable parallel safe as $$
    select coalesce(current_setting('hub.tenants', true) = '*', false)
$$;

-- Puts the fence around a table. `seen` is asked of a row before a reader with tenants sees it; null
-- is never. Safe to call again, with other words.
create function hub_fence(tab regclass, seen text, worker text, reader text) returns void language plpgsql as $$
begin
    execute format('alter table %s owner to posto_migrate', tab);
    execute format('alter table %s enable row level security', tab);
    execute format('alter table %s force row level security', tab);
    if exists (select from pg_policy where polrelid = tab and polname = 'owner_all') then
        execute format('drop policy owner_all on %s', tab);
        execute format('drop policy worker_all on %s', tab);
        execute format('drop policy reader_own on %s', tab);
    end if;
    -- Constants cost a statement nothing: the planner drops them.
    execute format('create policy owner_all on %s to posto_migrate using (true) with check (true)', tab);
    execute format('create policy worker_all on %s to posto_worker using (true) with check (true)', tab);
    -- In a sub-select each function is asked once a statement, not once a row.
    execute format('create policy reader_own on %s to posto_reader using ((select hub_agency()) or coalesce(%s, false))',
                   tab, coalesce('(' || seen || ')', 'false'));
    execute format('revoke all on %s from public, posto_worker, posto_reader', tab);
    if worker <> '' then execute format('grant %s on %s to posto_worker', worker, tab); end if;
    if reader <> '' then execute format('grant %s on %s to posto_reader', reader, tab); end if;
end
$$;

-- A partition is reached through its parent, whose fence holds; by its own name by the owner alone.
create function hub_fence_partition(tab regclass) returns void language plpgsql as $$
begin
    execute format('alter table %s owner to posto_migrate', tab);
    execute format('alter table %s enable row level security', tab);
    execute format('alter table %s force row level security', tab);
    execute format('create policy owner_all on %s to posto_migrate using (true) with check (true)', tab);
end
$$;

-- What every `migrate` ends with, and a no-op where nothing is new: gives what the login made to
-- `posto_migrate`, and puts a fence around tables that have none: every verb, for the rows of the tenant
-- that `tenant_id` names where they have it, else for the agency alone. A migration that wants it
-- narrower calls `hub_fence` itself.
create function hub_fence_the_rest() returns void language plpgsql as $$
declare
    it record;
begin
    for it in
        select c.oid::regclass as tab, c.relispartition,
               exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id'
                       and not a.attisdropped) as has_tenant
        from pg_class c
        where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p')
          and c.relname <> '_sqlx_migrations' and not (c.relrowsecurity and c.relforcerowsecurity)
          and pg_has_role(c.relowner, 'usage')
          and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
    loop
        if it.relispartition then
            perform hub_fence_partition(it.tab);
        else
            perform hub_fence(it.tab, case when it.has_tenant then 'tenant_id = any ((select hub_tenants())::bigint[])' end,
                              'select, insert, update, delete', 'select, insert, update, delete');
        end if;
    end loop;
    -- `create or replace view` forgets who reads through it.
    for it in
        select c.oid::regclass as tab from pg_class c
        where c.relnamespace = current_schema()::regnamespace and c.relkind = 'v' and pg_has_role(c.relowner, 'usage')
          and not coalesce(c.reloptions @> '{security_invoker=true}', false)
          and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
    loop
        execute format('alter view %s owner to posto_migrate', it.tab);
        execute format('alter view %s set (security_invoker = true)', it.tab);
        execute format('revoke all on %s from public', it.tab);
        execute format('grant select on %s to posto_worker, posto_reader', it.tab);
    end loop;
    for it in
        select p.oid::regprocedure as fn from pg_proc p
        where p.pronamespace = current_schema()::regnamespace and p.proname like 'hub\_%'
          and p.proowner <> 'posto_migrate'::regrole and pg_has_role(p.proowner, 'usage')
    loop
        execute format('alter routine %s owner to posto_migrate', it.fn);
    end loop;
    for it in
        select t.oid::regtype as ty from pg_type t
        where t.typnamespace = current_schema()::regnamespace and t.typname like 'hub\_%' and t.typtype = 'c'
          and t.typowner <> 'posto_migrate'::regrole and pg_has_role(t.typowner, 'usage')
    loop
        execute format('alter type %s owner to posto_migrate', it.ty);
    end loop;
    -- Sequences of identity columns need no grant; those of defaults do.
    for it in
        select c.oid::regclass as seq from pg_class c
        where c.relnamespace = current_schema()::regnamespace and c.relkind = 'S' and pg_has_role(c.relowner, 'usage')
          and not (has_sequence_privilege('posto_worker', c.oid, 'usage') and has_sequence_privilege('posto_reader', c.oid, 'usage'))
    loop
        execute format('grant usage on sequence %s to posto_worker, posto_reader', it.seq);
    end loop;
    if to_regclass('_sqlx_migrations') is not null then
        if not pg_has_role('posto_migrate', (select relowner from pg_class where oid = to_regclass('_sqlx_migrations')), 'usage') then
            alter table _sqlx_migrations owner to posto_migrate;
        end if;
        if not has_table_privilege('posto_worker', '_sqlx_migrations', 'select') then
            grant select on _sqlx_migrations to posto_worker, posto_reader;
        end if;
    end if;
end
$$;

-- New partitions get their fence as they are made. With the owner's rights: the services that see to
-- the coming weeks need no right to make tables.
create or replace function hub_make_event_partitions(weeks_ahead integer) returns integer
language plpgsql security definer as $$
declare
    week  timestamptz;
    child text;
    made  integer := 0;
begin
    for offset_weeks in -1 .. weeks_ahead loop
        week := date_trunc('week', now() at time zone 'utc') at time zone 'utc'
                + make_interval(weeks => offset_weeks);
        child := 'communication_events_' || to_char(week at time zone 'utc', 'IYYY"w"IW');
        if to_regclass(child) is null then
            -- Attached, not created in place: that would lock the parent against every insert.
            execute format('create table %I (like communication_events including all)', child);
            execute format('alter table %I set (toast_tuple_target = 8160)', child);
            perform hub_fence_partition(child::regclass);
            execute format(
                'alter table communication_events attach partition %I for values from (%L) to (%L)',
                child, hub_uuid_floor(week), hub_uuid_floor(week + interval '1 week'));
            made := made + 1;
        end if;
    end loop;
    return made;
end
$$;
-- Where it was made, and nobody's temporary tables first.
do $$
begin
    execute format('alter function hub_make_event_partitions(integer) set search_path = %I, pg_temp', current_schema());
end
$$;
revoke execute on function hub_make_event_partitions(integer) from public;
grant execute on function hub_make_event_partitions(integer) to posto_worker, posto_migrate;

-- Tables with a tenant's number of their own.
select hub_fence('tenants', 'id = any ((select hub_tenants())::bigint[])',
                 'select, insert, update', 'select, insert, update');
select hub_fence('tenant_message_channels', 'tenant_id = any ((select hub_tenants())::bigint[])',
                 'select, insert, update', 'select');
select hub_fence('tenant_asaas_ids', 'tenant_id = any ((select hub_tenants())::bigint[])',
                 'select, insert, update', 'select');
select hub_fence('billing_invoices', 'tenant_id = any ((select hub_tenants())::bigint[])',
                 'select, insert, update, delete', 'select');
select hub_fence('routings', 'tenant_id = any ((select hub_tenants())::bigint[])',
                 'select, insert, update', 'select, update');
select hub_fence('deliveries', 'tenant_id = any ((select hub_tenants())::bigint[])',
                 'select, insert, update', 'select, update');
select hub_fence('dead_letters', 'tenant_id = any ((select hub_tenants())::bigint[])',
                 'select, insert, update', 'select, update');
select hub_fence('communication_logs', 'tenant_id = any ((select hub_tenants())::bigint[])',
                 'select, insert', 'select, insert');
select hub_fence('chat_threads', 'customer_id = any ((select hub_tenants())::bigint[])',
                 'select, insert, update', 'select');
-- Append-only for everybody: what may rewrite or drop an event is the owner's (design §1.6). An event
-- that names no tenant is of the one that its decision found.
select hub_fence('communication_events',
                 'tenant_id = any ((select hub_tenants())::bigint[])
                  or tenant_id is null and (
                      select bool_or(r.tenant_id = any ((select hub_tenants())::bigint[]))
                      from routings r where r.event_id = communication_events.id)',
                 'select, insert', 'select');

-- Tables whose rows are somebody's through another's. No `exists`: the planner may answer that by
-- reading all of the other table once.
select hub_fence('delivery_attempts',
                 '(select d.tenant_id from deliveries d where d.id = delivery_attempts.delivery_id) = any ((select hub_tenants())::bigint[])',
                 'select, insert, update', 'select, update');
select hub_fence('receipts',
                 '(select d.tenant_id from deliveries d where d.id = receipts.delivery_id) = any ((select hub_tenants())::bigint[])',
                 'select, insert, update', 'select, update');
select hub_fence('chat_messages',
                 '(select t.customer_id from chat_threads t where t.id = chat_messages.thread_id) = any ((select hub_tenants())::bigint[])',
                 'select, insert, update', 'select');

-- The agency's own: what is nobody's, or of several at once.
select hub_fence('sources', null, 'select, insert, update', 'select, update');
select hub_fence('source_credentials', null, 'select, insert, update', 'select, insert, update');
select hub_fence('channels', null, 'select, insert, update', 'select');
select hub_fence('channel_aliases', null, 'select, insert, update', 'select');
select hub_fence('routing_rules', null, 'select', 'select');
select hub_fence('message_templates', null, 'select', 'select');
select hub_fence('config_version', null, 'select, update (version)', 'select, update (version)');
select hub_fence('audit_log', null, 'select, insert', 'select, insert');
select hub_fence('outbox', null, 'select, insert, update (available_at), delete', 'select, insert');

-- The machine's: no reader's business.
select hub_fence('idempotency_keys', null, 'select, insert, update', '');
select hub_fence('installation', null, 'select', '');
select hub_fence('reconcile_marks', null, 'select, insert, update', '');
select hub_fence('release_leases', null, 'select, insert, update, delete', '');
select hub_fence('ledger_books', null, 'select, update', '');
select hub_fence('dead_queue_looks', null, 'select, insert, update', '');
select hub_fence('dropped_event_weeks', null, 'select', 'select');

select hub_fence_the_rest();
