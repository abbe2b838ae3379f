-- Whose a thing is that a payment provider tells of: its customers, its accounts, its charges.

create table tenant_asaas_ids (
    kind       text not null check (kind in ('customer', 'account')),
    -- `cus_…`, or the UUID of a (sub)account that one tenant has for itself.
    asaas_id   text not null check (asaas_id <> ''),
    -- A tenant may have several: Asaas makes two customers of one CPF (facts §2.3).
    tenant_id  bigint not null references tenants (id),
    created_at timestamptz not null default now(),
    primary key (kind, asaas_id)
);
create trigger config_changed after insert or update or delete on tenant_asaas_ids
    for each statement execute function hub_config_changed();

-- Invoices as far as it is known whose they are. One invoice may have a number of PixelHub's, a
-- charge at Asaas, or both; each is found by either. No trigger for the caches: a row comes with the
-- first event of every charge.
create table billing_invoices (
    id          bigint generated always as identity primary key,
    tenant_id   bigint not null references tenants (id),
    -- `invoice:503`, as events of our own systems name it.
    invoice_key text unique,
    -- `asaas:pay_…`, as events of Asaas name it.
    asaas_key   text unique,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    check (num_nonnulls(invoice_key, asaas_key) > 0)
);

-- What waits for somebody to say whose it is.
create index routings_unresolved on routings (id)
    where tenant_id is null and source_system = 'asaas' and decision -> 'tenant' ->> 'how' = 'unresolved';
