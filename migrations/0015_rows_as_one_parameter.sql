-- Rows of a statement come as one array of a composite type: each array of a column costs the statement
-- more than the column does. `record_recv` asks for just the columns that the type has, so that a type
-- never changes: another shape is another type, and this one goes a release later.

create type hub_new_routing as (
    id                 uuid,
    event_id           uuid,
    run                integer,
    trace_id           text,
    tenant_id          bigint,
    event_type         text,
    source_system      text,
    state              text,
    decision           jsonb,
    failure_code       text,
    error_message      text,
    processing_time_ms double precision
);

create type hub_new_delivery as (
    id             uuid,
    routing_id     uuid,
    ordinal        integer,
    event_id       uuid,
    event_type     text,
    source_system  text,
    trace_id       text,
    correlation_id text,
    tenant_id      bigint,
    channel        text,
    channel_id     text,
    lane           text,
    rule_id        bigint,
    template_id    bigint,
    template_key   text,
    recipient      text,
    recipient_key  text,
    recipient_name text,
    body_text      text,
    body_hash      bytea,
    invoice_key    text,
    detail         jsonb,
    unknown_policy text,
    state          text,
    failure_code   text,
    failure_detail text,
    max_retries    integer
);

-- A receipt, with the decision that it follows from.
create type hub_new_receipt as (
    routing_id             uuid,
    id                     uuid,
    event_id               uuid,
    trace_id               text,
    kind                   text,
    channel_id             text,
    level                  integer,
    evidence               text,
    provider_message_id    text,
    gateway_correlation_id text,
    delivery_ref           uuid,
    recipient_key          text,
    recipient              text,
    body_text              text,
    body_hash              bytea,
    provider_at            timestamptz
);

-- A work message, with the decision that it follows from.
create type hub_planned_message as (
    routing_id uuid,
    target     text,
    subject_id uuid,
    body       jsonb
);
