-- Messages that are to leave, written in the transaction of the data they are about.
-- Rows are insert-only but for `available_at`, which is a lease in the database's own time:
-- until then the process that inserted the row (or the sweeper that leased it) publishes it.
create table outbox (
    id           bigint generated always as identity primary key,
    -- A work queue's name, or 'dead:' and the name of the queue whose letter it is.
    target       text not null,
    subject_id   uuid not null,
    body         jsonb not null,
    headers      jsonb,
    available_at timestamptz not null,
    created_at   timestamptz not null default now()
);
create index outbox_available_at on outbox (available_at);
create index outbox_subject_id on outbox (subject_id);
-- Everything here is deleted within moments: vacuum early and often, by count and not by share.
alter table outbox set (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
