-- PixelHub's service orders, as far as their chat needs them.

create table service_orders (
    -- PixelHub's own number; Posto never makes one.
    id            bigint primary key check (id > 0),
    -- Null: nobody knows yet whose it is; the chat may be how it is found out.
    tenant_id     bigint references tenants (id),
    -- PixelHub's own word.
    status        text not null default 'open' check (status <> ''),
    customer_name text,
    -- What the public link carries opens the chat. Only a hash is kept; the token itself is random and
    -- long, so no salt is needed. Null: no public link.
    token_sha256  bytea unique check (length(token_sha256) = 32),
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now()
);
