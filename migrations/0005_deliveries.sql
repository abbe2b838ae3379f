-- Effects wanted, tries made, evidence that came back, and what was given up.

create table deliveries (
    id               uuid primary key,
    routing_id       uuid not null references routings (id),
    ordinal          integer not null,
    event_id         uuid not null,
    event_type       text not null,
    source_system    text not null,
    trace_id         text not null,
    correlation_id   text,
    tenant_id        bigint,
    channel          text not null check (channel in ('whatsapp', 'chat', 'email')),
    -- The sending account; null for the chat, which has none.
    channel_id       text,
    lane             text not null default 'notice' check (lane in ('reply', 'notice', 'bulk')),
    rule_id          bigint,
    template_id      bigint,
    template_key     text,
    -- The address as it was given, never rewritten (facts §0.11).
    recipient        text,
    recipient_key    text,
    recipient_name   text,
    body_text        text,
    -- Keyed hash of the text, the last resort to bind an echo.
    body_hash        bytea,
    thread_id        bigint,
    invoice_key      text,
    -- What the driver needs besides (for the chat: direction, role, provider's message id and time).
    detail           jsonb not null default '{}',
    unknown_policy   text not null default 'park' check (unknown_policy in ('park', 'resend_if_silent', 'resend')),
    state            text not null check (state in ('queued', 'held', 'claimed', 'sent', 'delivered', 'read',
                         'failed', 'dead', 'unknown', 'suppressed', 'cancelled', 'simulated')),
    held_reason      text,
    failure_code     text,
    failure_detail   text,
    generation       integer not null default 0,
    -- How many attempts were made; the next message carries the next number.
    attempt_count    integer not null default 0,
    -- How many of them count against the budget: a session that is down burns none.
    retry_count      integer not null default 0,
    max_retries      integer not null default 3,
    -- Null while a message for the next attempt is out; else the time it becomes due.
    next_attempt_at  timestamptz,
    dispatched_at    timestamptz,
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),
    sent_at          timestamptz,
    delivered_at     timestamptz,
    read_at          timestamptz,
    settled_at       timestamptz,
    unique (routing_id, ordinal)
);
create index deliveries_event_id on deliveries (event_id);
create index deliveries_trace_id on deliveries (trace_id);
create index deliveries_due on deliveries (next_attempt_at)
    where state = 'queued' and next_attempt_at is not null;
create index deliveries_dispatched on deliveries (dispatched_at)
    where state = 'queued' and next_attempt_at is null;
create index deliveries_held on deliveries (channel_id, id) where state = 'held';
create index deliveries_unknown on deliveries (updated_at) where state = 'unknown' and unknown_policy <> 'park';
create index deliveries_recipient on deliveries (channel_id, recipient_key, created_at)
    where channel = 'whatsapp';
create index deliveries_invoice_key on deliveries (invoice_key) where invoice_key is not null;
create index deliveries_tenant on deliveries (tenant_id, id);

create table delivery_attempts (
    id                     uuid primary key,
    delivery_id            uuid not null references deliveries (id),
    generation             integer not null,
    number                 integer not null,
    trace_id               text not null,
    channel_id             text,
    worker                 text not null,
    outcome                text not null default 'open'
                           check (outcome in ('open', 'sent', 'retry', 'held', 'failed', 'unknown', 'not_sent')),
    failure_code           text,
    http_status            integer,
    -- What the provider answered, shortened and scrubbed.
    response_excerpt       text,
    gateway_correlation_id text,
    provider_message_id    text,
    claimed_at             timestamptz not null default now(),
    lease_until            timestamptz not null,
    finished_at            timestamptz,
    duration_ms            double precision,
    unique (delivery_id, generation, number)
);
create index delivery_attempts_open on delivery_attempts (lease_until) where outcome = 'open';
create index delivery_attempts_provider_message_id on delivery_attempts (provider_message_id)
    where provider_message_id is not null;
create index delivery_attempts_gateway_correlation_id on delivery_attempts (gateway_correlation_id)
    where gateway_correlation_id is not null;

create table receipts (
    id                     uuid primary key,
    event_id               uuid not null unique,
    trace_id               text not null,
    kind                   text not null check (kind in ('echo', 'ack')),
    channel_id             text not null,
    -- The provider's own spelling of the level; `evidence` is ours.
    level                  integer,
    evidence               text check (evidence in ('provider_failed', 'sent', 'delivered', 'read')),
    provider_message_id    text,
    gateway_correlation_id text,
    delivery_ref           uuid,
    recipient_key          text,
    recipient              text,
    body_text              text,
    body_hash              bytea,
    provider_at            timestamptz not null,
    state                  text not null default 'pending' check (state in ('pending', 'applied', 'unbound', 'ignored')),
    delivery_id            uuid,
    attempt_id             uuid,
    -- What it did to the delivery's state, or why it did nothing.
    effect                 text,
    dispatched_at          timestamptz not null default now(),
    created_at             timestamptz not null default now(),
    applied_at             timestamptz
);
create index receipts_pending on receipts (dispatched_at) where state = 'pending';
create index receipts_unbound on receipts (id) where state = 'unbound';
create index receipts_echo on receipts (channel_id, created_at) where kind = 'echo';
create index receipts_provider_message_id on receipts (provider_message_id) where provider_message_id is not null;
create index receipts_gateway_correlation_id on receipts (gateway_correlation_id)
    where gateway_correlation_id is not null and state in ('pending', 'unbound');
create index receipts_delivery_id on receipts (delivery_id) where delivery_id is not null;
create index receipts_trace_id on receipts (trace_id);

create table dead_letters (
    id               uuid primary key,
    queue            text not null,
    subject_kind     text not null check (subject_kind in ('event', 'delivery', 'receipt', 'message')),
    subject_id       uuid,
    generation       integer not null default 0,
    failure_code     text not null,
    failure_class    text not null,
    attempts         integer not null default 0,
    first_failed_at  timestamptz not null,
    last_failed_at   timestamptz not null,
    trace_id         text,
    event_type       text,
    tenant_id        bigint,
    channel          text,
    template_key     text,
    state            text not null default 'dead' check (state in ('dead', 'redriven', 'discarded', 'superseded')),
    made_by          text not null default 'posto' check (made_by in ('posto', 'broker')),
    created_at       timestamptz not null default now(),
    settled_at       timestamptz
);
create unique index dead_letters_one_per_generation
    on dead_letters (subject_kind, subject_id, generation) where subject_id is not null;
create index dead_letters_open on dead_letters (created_at) where state = 'dead';
create index dead_letters_trace_id on dead_letters (trace_id) where trace_id is not null;

-- Up to where the reconciler knows that every event has its routing.
create table reconcile_marks (
    name  text primary key,
    up_to uuid not null
);
