-- Conversations: one thread per (channel account, contact), per group, or per service order.

create table chat_threads (
    id               bigint generated always as identity primary key,
    kind             text not null check (kind in ('contact', 'group', 'order', 'internal')),
    -- Invariant: a thread never changes its channel account (incident 11).
    channel_id       text,
    contact_key      text,
    -- The provider's own address: replies go there, never to a rewritten one.
    contact_address  text,
    contact_name     text,
    customer_id      bigint references tenants (id),
    order_id         bigint,
    status           text not null default 'open'
                     check (status in ('open', 'waiting_user', 'waiting_ai', 'escalated', 'closed')),
    current_step     text,
    unread_count     integer not null default 0 check (unread_count >= 0),
    message_count    integer not null default 0,
    automation_paused_at timestamptz,
    last_message_at  timestamptz,
    source_system    text not null,
    trace_id         text not null,
    correlation_id   text,
    metadata         jsonb not null default '{}',
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),
    check ((kind in ('contact', 'group')) = (contact_key is not null and channel_id is not null))
);
create unique index chat_threads_contact on chat_threads (channel_id, contact_key) where contact_key is not null;
create unique index chat_threads_order on chat_threads (order_id) where order_id is not null;

create table chat_messages (
    id             bigint generated always as identity primary key,
    thread_id      bigint not null references chat_threads (id),
    role           text not null check (role in ('system', 'assistant', 'user', 'tool')),
    -- Who wrote it: the contact, one of us on the phone itself, or Posto for a system or an operator.
    origin         text not null check (origin in ('contact', 'device', 'hub')),
    content        text not null,
    -- The provider's key id, for idempotency.
    message_id     text,
    delivery_id    uuid,
    event_id       uuid not null,
    trace_id       text not null,
    correlation_id text,
    metadata       jsonb not null default '{}',
    occurred_at    timestamptz not null,
    created_at     timestamptz not null default now()
);
create unique index chat_messages_once on chat_messages (thread_id, message_id) where message_id is not null;
create unique index chat_messages_delivery_id on chat_messages (delivery_id) where delivery_id is not null;
create index chat_messages_thread on chat_messages (thread_id, occurred_at, id);
create index chat_messages_trace_id on chat_messages (trace_id);
