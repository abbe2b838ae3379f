-- What is decided about events: the rules, the templates, and the stored decisions.

create table routing_rules (
    id            bigint generated always as identity primary key,
    name          text not null unique,
    -- Exact, or a pattern whose `*` is expanded here, in the rule (facts §4.2).
    event_type    text not null,
    source_system text,
    tenant_id     bigint references tenants (id),
    -- A minijinja expression over event, payload and tenant.
    condition     text,
    channel       text not null check (channel in ('whatsapp', 'chat', 'email', 'none')),
    template      text,
    -- A minijinja expression that may name another template than `template`.
    template_expr text,
    priority      integer not null default 100,
    enabled       boolean not null default true,
    needs_ai      boolean not null default false,
    needs_human   boolean not null default false,
    metadata      jsonb not null default '{}',
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    check (template is not null or channel in ('chat', 'none'))
);

create table message_templates (
    id             bigint generated always as identity primary key,
    key            text not null,
    channel        text not null check (channel in ('whatsapp', 'chat', 'email')),
    locale         text not null default 'pt-BR',
    version        integer not null check (version > 0),
    body           text not null,
    -- [{"name": "amount", "required": true, "sample": "59.80"}]
    variables      jsonb not null default '[]',
    lane           text not null default 'notice' check (lane in ('reply', 'notice', 'bulk')),
    -- What to do with a send whose outcome stays unknown (design §1.5).
    unknown_policy text not null default 'park' check (unknown_policy in ('park', 'resend_if_silent', 'resend')),
    active         boolean not null default true,
    created_at     timestamptz not null default now(),
    unique (key, channel, locale, version)
);
create unique index message_templates_one_active
    on message_templates (key, channel, locale) where active;

create trigger config_changed after insert or update or delete on routing_rules
    for each statement execute function hub_config_changed();
create trigger config_changed after insert or update or delete on message_templates
    for each statement execute function hub_config_changed();

create table routings (
    id                 uuid primary key,
    event_id           uuid not null,
    run                integer not null default 0,
    trace_id           text not null,
    tenant_id          bigint,
    event_type         text not null,
    source_system      text not null,
    state              text not null check (state in ('routed', 'unrouted', 'failed')),
    -- Rules tried and why not, the effects planned: everything that answers "why".
    decision           jsonb not null,
    failure_code       text,
    error_message      text,
    processing_time_ms double precision not null,
    created_at         timestamptz not null default now(),
    unique (event_id, run)
);
create index routings_trace_id on routings (trace_id);
