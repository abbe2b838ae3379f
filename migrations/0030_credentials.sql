-- Credentials have a kind, a scope, a successor and a last use.

alter table source_credentials
    add column kind text not null default 'bearer' check (kind in ('bearer', 'hmac')),
    -- What a signature is verified with, so it must be readable. Its first byte tells how it is kept
    -- (shared/src/store/credentials.rs); gone with the revocation.
    add column signing_secret bytea,
    -- The beginning of a key that was made here, for people to tell keys apart.
    add column hint text not null default '',
    -- Empty: every tenant. `tenant_id` stays the first of them, for the binary before this one.
    add column tenant_ids bigint[] not null default '{}',
    -- Patterns, as in rules; empty: every type.
    add column event_types text[] not null default '{}',
    -- The credential whose successor this one is.
    add column replaces bigint references source_credentials (id),
    -- Written about once a minute while it is in use, never by a request.
    add column last_used_at timestamptz,
    add constraint source_credentials_signing_secret
        check ((signing_secret is not null) = (kind = 'hmac' and revoked_at is null));
update source_credentials set tenant_ids = array[tenant_id] where tenant_id is not null;

create index source_credentials_source on source_credentials (source_system, id);
-- Two rotations of one key at once make one successor.
create unique index source_credentials_one_successor on source_credentials (replaces) where revoked_at is null;

-- Not on `last_used_at`: that is traffic, not configuration.
drop trigger config_changed on source_credentials;
create trigger config_changed
    after insert or delete
        or update of source_system, tenant_id, tenant_ids, event_types, secret_sha256, signing_secret, kind, valid_until, revoked_at
    on source_credentials for each statement execute function hub_config_changed();
