-- Makes the roles that Posto's services take on, where the login that migrates may not (managed
-- databases). Run it once, as an administrator, in Posto's own database:
--
--     psql -v login=posto -f deploy/postgres/roles.sql "$ADMINISTRATORS_DATABASE_URL"
--
-- Afterwards `ingest migrate` finds everything there. Safe to run again.
\set ON_ERROR_STOP on
select format('create role %I nologin nosuperuser nobypassrls', wanted)
from unnest(array['posto_migrate', 'posto_worker', 'posto_reader']) as wanted
where not exists (select from pg_roles where rolname = wanted) \gexec
grant posto_migrate, posto_worker, posto_reader to :"login";
grant usage on schema public to posto_worker, posto_reader;
grant usage, create on schema public to posto_migrate, :"login";
