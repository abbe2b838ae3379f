-- Who serves a module of PixelHub's: Posto, Posto without sending, or PixelHub itself.

create table module_switches (
    id         bigint generated always as identity primary key,
    module     text not null check (module in ('billing', 'chat', 'tenants')),
    -- Null: for every tenant that has no row of its own.
    tenant_id  bigint references tenants (id),
    mode       text not null check (mode in ('live', 'shadow', 'off')),
    changed_by text not null,
    changed_at timestamptz not null default now(),
    unique nulls not distinct (module, tenant_id)
);
create trigger config_changed after insert or update or delete on module_switches
    for each statement execute function hub_config_changed();

-- What PixelHub's endpoints tell. Nothing leaves for either: the one was sent by a person already, the
-- other made a thread of our own.
insert into routing_rules (name, event_type, source_system, channel, priority) values
    ('whatsapp-logged', 'whatsapp.message.logged', null, 'none', 20),
    ('chat-thread-opened', 'chat.thread.opened', null, 'none', 20);
