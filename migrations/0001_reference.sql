-- Who talks to Posto, for whom, and through which accounts.

create table tenants (
    -- PixelHub's own number; Posto never makes one.
    id              bigint primary key check (id > 0),
    name            text not null check (name <> ''),
    trade_name      text,
    person_type     text not null default 'pj' check (person_type in ('pf', 'pj')),
    phone           text,
    -- Country + area code + last eight digits: finds a contact with or without the ninth digit.
    phone_match_key text,
    email           text,
    archived_at     timestamptz,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now()
);
create index tenants_phone_match_key on tenants (phone_match_key) where archived_at is null;

create table sources (
    name       text primary key check (name ~ '^[a-z0-9][a-z0-9_.-]{0,49}$'),
    enabled    boolean not null default true,
    created_at timestamptz not null default now()
);

create table source_credentials (
    id            bigint generated always as identity primary key,
    source_system text not null references sources (name),
    -- Null: the credential may speak for every tenant.
    tenant_id     bigint references tenants (id),
    label         text not null default '',
    -- Only a hash is kept; the secret itself is random and long, so no salt is needed.
    secret_sha256 bytea not null unique check (length(secret_sha256) = 32),
    created_at    timestamptz not null default now(),
    valid_until   timestamptz,
    revoked_at    timestamptz
);

create table channels (
    -- The account's slug: lower case, no spaces. Invariant: never changes, conversations hang on it.
    id                 text primary key check (id = lower(id) and id !~ '\s' and id <> ''),
    channel            text not null default 'whatsapp' check (channel in ('whatsapp', 'chat', 'email')),
    provider           text not null default 'wpp_gateway',
    -- The name as the provider spells it: case and spaces count there (facts §1.1).
    provider_account   text not null,
    display_name       text not null,
    own_phone          text,
    enabled            boolean not null default true,
    session_state      text not null default 'unknown' check (session_state in ('unknown', 'up', 'down')),
    session_reason     text,
    session_changed_at timestamptz,
    -- The provider's time of the last session event, so that an older one does not undo it.
    session_event_at   timestamptz,
    created_at         timestamptz not null default now(),
    unique (provider, provider_account)
);

create table channel_aliases (
    alias      text primary key check (alias = lower(alias) and alias !~ '\s'),
    channel_id text not null references channels (id)
);

-- A channel may be shared by many tenants, and a tenant may have several (facts §0.1).
create table tenant_message_channels (
    id         bigint generated always as identity primary key,
    tenant_id  bigint not null references tenants (id),
    channel_id text not null references channels (id),
    is_default boolean not null default false,
    enabled    boolean not null default true,
    created_at timestamptz not null default now(),
    unique (tenant_id, channel_id)
);
create unique index tenant_message_channels_one_default
    on tenant_message_channels (tenant_id) where is_default and enabled;

-- What belongs to this installation alone.
create table installation (
    only_row boolean primary key default true check (only_row),
    -- Keys the hashes of message texts that echoes are bound by.
    hash_key bytea not null
);
insert into installation (hash_key)
    values (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

-- Caches compare this number every 30 s; the notification only makes them quicker.
create table config_version (
    only_row boolean primary key default true check (only_row),
    version  bigint not null
);
insert into config_version (version) values (1);

create function hub_config_changed() returns trigger language plpgsql as $$
begin
    update config_version set version = version + 1;
    perform pg_notify('posto_config', tg_table_name);
    return null;
end
$$;

create trigger config_changed after insert or update or delete on tenants
    for each statement execute function hub_config_changed();
create trigger config_changed after insert or update or delete on sources
    for each statement execute function hub_config_changed();
create trigger config_changed after insert or update or delete on source_credentials
    for each statement execute function hub_config_changed();
-- Not on a session's state: that changes with the traffic, and claims read it from the row.
create trigger config_changed after insert or delete or update of provider_account, display_name, own_phone, enabled
    on channels for each statement execute function hub_config_changed();
create trigger config_changed after insert or update or delete on channel_aliases
    for each statement execute function hub_config_changed();
create trigger config_changed after insert or update or delete on tenant_message_channels
    for each statement execute function hub_config_changed();
