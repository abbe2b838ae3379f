-- The ledger (design §1, "Ledger"): what the metrics count, and how far the counting has come.

-- Claimed and unknown deliveries are few; they are looked for every few seconds.
create index deliveries_claimed_unknown on deliveries (state, updated_at) where state in ('claimed', 'unknown');

-- One row per table that is gone through page by page, so that no statement ever counts a whole
-- table. Several instances share the walk: whoever has the row locked turns the page.
create table ledger_books (
    book       text primary key check (book in ('events', 'routings', 'deliveries')),
    -- How far the walk has come; the next page begins after it.
    up_to      uuid not null default '00000000-0000-0000-0000-000000000000',
    -- What the walk has counted and found wrong so far.
    counting   jsonb not null default '{}',
    -- The same of the last whole walk; null before the first one has ended.
    counted    jsonb,
    counted_at timestamptz
);
insert into ledger_books (book) values ('events'), ('routings'), ('deliveries');
