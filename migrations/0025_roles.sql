-- The second fence (design §5): three roles that nobody logs in as. `posto_migrate` owns everything,
-- `posto_worker` is what the services work as, `posto_reader` what the API and the operators read and
-- write as. The login of DATABASE_URL is a member of them and takes one on with `set role`.
--
-- Roles belong to the whole cluster: several databases may come here at once, and an administrator
-- may have made them before (deploy/postgres/roles.sql).
do $$
declare
    wanted text;
begin
    if current_setting('server_version_num')::integer < 150000 then
        raise exception 'Posto needs PostgreSQL 15 or newer: before it, views read with the rights of their owner';
    end if;
    foreach wanted in array array['posto_migrate', 'posto_worker', 'posto_reader'] loop
        for tried in 1 .. 10 loop
            begin
                if not exists (select from pg_roles where rolname = wanted) then
                    execute format('create role %I nologin nosuperuser nobypassrls', wanted);
                end if;
                -- Of all roles: a superuser is one already.
                if not pg_has_role(session_user, wanted, 'usage') then
                    execute format('grant %I to %I', wanted, session_user);
                end if;
                exit;
            exception
                when duplicate_object or unique_violation or internal_error then
                    -- Another database's migration was quicker by a moment, or touched the same row.
                    if tried = 10 then raise; end if;
                when insufficient_privilege then
                    raise exception 'the login % may neither make the role % nor become a member of it: let an administrator of the cluster run deploy/postgres/roles.sql with this login, then migrate again', session_user, wanted
                        using errcode = 'insufficient_privilege';
            end;
        end loop;
    end loop;
    if exists (select from pg_roles
               where rolname in ('posto_migrate', 'posto_worker', 'posto_reader') and (rolsuper or rolbypassrls)) then
        raise exception 'posto_migrate, posto_worker and posto_reader must be nosuperuser and nobypassrls: alter them, then migrate again';
    end if;
    begin
        execute format('grant usage on schema %I to posto_worker, posto_reader', current_schema());
        execute format('grant usage, create on schema %I to posto_migrate', current_schema());
    exception when insufficient_privilege then
        null;
    end;
    -- Without the right to grant it is a warning, not an error.
    if not has_schema_privilege('posto_migrate', current_schema(), 'create')
       or not has_schema_privilege('posto_worker', current_schema(), 'usage')
       or not has_schema_privilege('posto_reader', current_schema(), 'usage') then
        raise exception 'the login % may not let the roles use schema %: let an administrator run deploy/postgres/roles.sql with this login in this database, then migrate again', session_user, current_schema()
            using errcode = 'insufficient_privilege';
    end if;
end
$$;
