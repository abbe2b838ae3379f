-- Addresses that failed to authenticate again and again, and until when they are shut out. Every
-- process of the public door decides by itself; the table makes it one decision, visible and undoable.

create table ip_blocks (
    -- An IPv4 address, or the /64 of an IPv6 address.
    address       text primary key,
    -- How often it was shut out without a day of peace in between; each time doubles the next.
    times         integer not null default 1 check (times > 0),
    blocked_at    timestamptz not null default now(),
    blocked_until timestamptz not null
);
create index ip_blocks_blocked_until on ip_blocks (blocked_until);
