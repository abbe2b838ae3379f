-- Ten million rows go in by the order of their ids, without the indexes whose order is another; those
-- are built at the end, as large as inserts would have made them.

create table load_indexes as
    select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as definition
    from pg_index
    where indrelid in ('routings'::regclass, 'deliveries'::regclass, 'idempotency_keys'::regclass)
      and not indisunique;

create function load_history_begins() returns void language plpgsql as $$
declare
    week  timestamptz;
    child text;
    one   record;
begin
    for weeks_ago in 2 .. 8 loop
        week := date_trunc('week', now() at time zone 'utc') at time zone 'utc' - make_interval(weeks => weeks_ago);
        child := 'communication_events_' || to_char(week at time zone 'utc', 'IYYY"w"IW');
        execute format('create table %I (like communication_events including defaults including constraints including storage)', child);
    end loop;
    for one in select * from load_indexes loop
        execute 'drop index ' || one.name;
    end loop;
end
$$;

create function load_history_ends() returns void language plpgsql as $$
declare
    week  timestamptz;
    child text;
    one   record;
begin
    for weeks_ago in 2 .. 8 loop
        week := date_trunc('week', now() at time zone 'utc') at time zone 'utc' - make_interval(weeks => weeks_ago);
        child := 'communication_events_' || to_char(week at time zone 'utc', 'IYYY"w"IW');
        execute format('alter table communication_events attach partition %I for values from (%L) to (%L)',
                       child, hub_uuid_floor(week), hub_uuid_floor(week + interval '1 week'));
    end loop;
    for one in select * from load_indexes loop
        execute one.definition;
    end loop;
end
$$;

-- `page` events from number `first` on, of the week that is `weeks_ago`, whose `total` events begin with
-- number `week_first`: each with its key, its routing, and a delivery that was read.
create function load_history(weeks_ago integer, first bigint, page bigint, week_first bigint, total bigint) returns void
language plpgsql as $$
declare
    week  timestamptz := date_trunc('week', now() at time zone 'utc') at time zone 'utc' - make_interval(weeks => weeks_ago);
    child text := 'communication_events_' || to_char(week at time zone 'utc', 'IYYY"w"IW');
begin
    execute format($sql$
        with made as materialized (
            select n, at, md5('event' || n) as trace,
                   (left(hub_uuid_floor(at)::text, 14) || '7' || substr(md5('id' || n), 1, 3) || '-a'
                    || substr(md5('id' || n), 4, 3) || '-' || substr(md5('id' || n), 7, 12))::uuid as id
            from (select n, %L::timestamptz + interval '7 days' * ((n - %s)::double precision / %s) as at
                  from generate_series(%s, %s - 1) n) numbered
        ), keys as (
            insert into idempotency_keys (source_system, scope, key, event_id, body_sha256, created_at, expires_at)
            select 'billing', 0, 'history-' || lpad(n::text, 10, '0'), id, sha256(trace::bytea), at, now() + interval '1 day'
            from made
        ), routed as (
            insert into routings (id, event_id, trace_id, tenant_id, event_type, source_system, state, decision,
                                  processing_time_ms, created_at)
            select id, id, trace, 1, 'billing.invoice.overdue', 'billing', 'routed', '{}', 0.1, at from made
        ), delivered as (
            insert into deliveries (id, routing_id, ordinal, event_id, event_type, source_system, trace_id,
                                    correlation_id, tenant_id, channel, channel_id, recipient, recipient_key,
                                    body_text, state, attempt_count, created_at, sent_at, delivered_at, read_at, settled_at)
            select id, id, 0, id, 'billing.invoice.overdue', 'billing', trace, trace, 1, 'whatsapp', 'pixel12digital',
                   (5511900000000 + n)::text, 'tel:5511' || lpad(n::text, 8, '0'), 'Olá', 'read', 1, at, at, at, at, at
            from made
        )
        insert into %I (id, source_system, event_type, tenant_id, idempotency_key, trace_id, correlation_id,
                        occurred_at, received_at, body, payload)
        select id, 'billing', 'billing.invoice.overdue', 1, 'history-' || lpad(n::text, 10, '0'), trace, trace, at, at,
               '{"invoice_id":503}', '{"invoice_id": 503}'
        from made
    $sql$, week, week_first, total, first, first + page, child);
end
$$;

alter table deliveries disable trigger all;
