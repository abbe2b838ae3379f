-- From where a source may speak: networks as CIDR; empty is from everywhere.

alter table sources add column networks text[] not null default '{}';
