-- Files that came inside payloads, by the hash of their bytes: the same file is kept once, however often it
-- is sent. Events and messages refer to it by that hash.

create table media (
    sha256     bytea primary key check (length(sha256) = 32),
    mime       text not null,
    -- The size of the file; sealed it is longer.
    size_bytes bigint not null check (size_bytes > 0),
    bytes      bytea not null,
    created_at timestamptz not null default now()
);
-- What is compressed already does not get smaller.
alter table media alter column bytes set storage external;

insert into sealing_walks (book) values ('media');
