-- Options of a server, whom it is mapped for, its tables, and no password.
-- needs: postgres_fdw
begin;
select plan(2);

select sqlkit_test.as_admin('create extension postgres_fdw schema public');
select sqlkit_test.as_admin(pg_catalog.format('grant usage on foreign data wrapper postgres_fdw to %I', session_user));
create server far foreign data wrapper postgres_fdw options (host 'h', dbname 'd');
comment on server far is 'kept';
create user mapping for public server far options (user 'u', password 'secret of u');
create foreign table "a b" (a text) server far;
select is(
    (select pg_catalog.to_jsonb(s) operator (pg_catalog.-) 'owner' from sqlkit.foreign_server as s),
    '{
        "name": "far", "wrapper": "postgres_fdw", "options": {"host": "h", "dbname": "d"}, "users": ["public"],
        "tables": ["\"a b\""], "comment": "kept"
    }',
    'what there is'
);
select is(
    (select bool_or(s::text like '%secret%') from sqlkit.foreign_server as s), false, 'no password'
);

select * from finish();
rollback;
