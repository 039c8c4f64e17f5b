-- Each table is read; odd names.
-- needs: file_fdw
begin;
select plan(4);

select sqlkit_test.as_admin('create extension file_fdw schema public');
select sqlkit_test.as_admin(pg_catalog.format('grant usage on foreign data wrapper file_fdw to %I', session_user));
select sqlkit_test.as_admin(pg_catalog.format('grant pg_execute_server_program to %I', session_user));
select sqlkit_test.as_admin(pg_catalog.format('grant pg_read_server_files to %I', session_user));
create server "My ""files""" foreign data wrapper file_fdw;
select sqlkit_test.create_schema('Over there');
create foreign table "Over there"."A ""b""" (a text) server "My ""files""" options (program 'echo a');
create foreign table "Over there".gone (a text) server "My ""files""" options (filename '/nowhere/at/all');
select results_eq(
    $$select c.relation, c.error_code, c.message is null, c.seconds >= 0 from sqlkit.check_server('My "files"') as c$$,
    $$values ('"Over there"."A ""b"""', null, true, true), ('"Over there".gone', '58P01', false, true)$$,
    'what can be read, and what is wrong'
);
select throws_ok($$select sqlkit.check_server('my "files"')$$, 'SK807', null, 'no such server');
create server bare foreign data wrapper file_fdw;
select is((select count(*) from sqlkit.check_server('bare')), 0::bigint, 'no tables');
select is((select count(*) from pg_foreign_server), 2::bigint, 'nothing else happened');

select * from finish();
rollback;
