-- The rows of the hottest statements come as one array of a composite type: each array of a column costs a
-- statement more than the column does. `record_recv` asks for just the columns that the type has, so that a
-- type never changes: another shape is another type, and this one goes a release later.

-- An event on its way into the store, with its key and its message.
create type hub_new_event as (
    id                  uuid,
    source_system       text,
    scope               bigint,
    key                 text,
    key_ttl_s           double precision,
    body_sha256         bytea,
    event_type          text,
    tenant_id           bigint,
    source_event_id     text,
    trace_id            text,
    correlation_id      text,
    causation_id        text,
    occurred_at         timestamptz,
    received_at         timestamptz,
    metadata            jsonb,
    body                bytea,
    payload             jsonb,
    provider_message_id text,
    channel_id          text,
    direction           text,
    contact_key         text,
    invoice_key         text,
    message             jsonb
);

-- A claim that a work message asks for.
create type hub_claim_request as (
    attempt_id  uuid,
    delivery_id uuid,
    generation  integer,
    attempt     integer,
    room        boolean
);

-- An attempt that sent its message.
create type hub_sent_attempt as (
    id                     uuid,
    delivery_id            uuid,
    gateway_correlation_id text,
    provider_message_id    text,
    duration_ms            double precision
);
