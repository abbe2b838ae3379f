-- An outbox row's id is never given twice, also when a crash of PostgreSQL takes rows that were committed
-- without waiting for the disk, and their numbers of the sequence with them: whoever published such a row
-- deletes it by its id afterwards, and must not meet another's. The clock goes on where the sequence does
-- not: 20 bits of the sequence below the milliseconds of Unix time.
alter table outbox alter column id drop identity;
create sequence outbox_number owned by outbox.id;
alter table outbox alter column id set default
    ((date_part('epoch', clock_timestamp()) * 1000)::bigint << 20) | (nextval('outbox_number') & 1048575);
