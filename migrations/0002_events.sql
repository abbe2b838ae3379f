-- What happened: append-only, partitioned by the week of the event's own UUIDv7.

create table idempotency_keys (
    source_system text not null,
    -- The tenant of the credential, 0 where it speaks for all.
    scope         bigint not null,
    key           text not null,
    event_id      uuid not null,
    body_sha256   bytea not null,
    created_at    timestamptz not null default now(),
    expires_at    timestamptz not null,
    primary key (source_system, scope, key)
);
create index idempotency_keys_expires_at on idempotency_keys (expires_at);

-- Invariant: rows never change after insert, and no foreign key points here (else partitions
-- could not be dropped). What became of an event stands in routings and deliveries.
create table communication_events (
    id                  uuid not null,
    source_system       text not null,
    event_type          text not null,
    tenant_id           bigint,
    source_event_id     text,
    idempotency_key     text,
    trace_id            text not null check (trace_id ~ '^[0-9a-f]{32}$'),
    correlation_id      text,
    causation_id        text,
    occurred_at         timestamptz not null,
    received_at         timestamptz not null,
    metadata            jsonb not null default '{}',
    -- Raw bytes as received; what jsonb cannot hold (\u0000) is only here.
    body                bytea not null,
    payload             jsonb,
    -- Promoted from the payload, because they are looked up.
    provider_message_id text,
    channel_id          text,
    direction           text check (direction in ('inbound', 'outbound')),
    contact_key         text,
    invoice_key         text,
    primary key (id)
) partition by range (id);
create index communication_events_trace_id on communication_events (trace_id);
create index communication_events_correlation_id on communication_events (correlation_id)
    where correlation_id is not null;
create index communication_events_provider_message_id on communication_events (provider_message_id)
    where provider_message_id is not null;
create index communication_events_invoice_key on communication_events (invoice_key)
    where invoice_key is not null;

-- The smallest UUIDv7 of a moment.
create function hub_uuid_floor(at timestamptz) returns uuid language sql immutable strict as $$
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Makes the partitions of the weeks from the last one to `weeks_ahead`; returns how many are new.
create function hub_make_event_partitions(weeks_ahead integer) returns integer language plpgsql as $$
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
            execute format(
                'alter table communication_events attach partition %I for values from (%L) to (%L)',
                child, hub_uuid_floor(week), hub_uuid_floor(week + interval '1 week'));
            made := made + 1;
        end if;
    end loop;
    return made;
end
$$;
select hub_make_event_partitions(8);

-- The important lines, kept where a trace can show them. Never a body, never personal data.
create table communication_logs (
    id            uuid primary key,
    at            timestamptz not null default now(),
    level         text not null check (level in ('info', 'warn', 'error')),
    trace_id      text,
    source_system text,
    tenant_id     bigint,
    event_id      uuid,
    delivery_id   uuid,
    channel_id    text,
    code          text not null,
    pointer       text,
    message       text not null,
    context       jsonb not null default '{}'
);
create index communication_logs_trace_id on communication_logs (trace_id);
create index communication_logs_at on communication_logs (at);
