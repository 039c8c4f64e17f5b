-- A server goes with its tables and mappings, whatever their names, and nothing else does.
-- needs: file_fdw
begin;
select plan(6);

select sqlkit_test.as_admin('create extension file_fdw schema public');
select sqlkit_test.as_admin(pg_catalog.format('grant usage on foreign data wrapper file_fdw to %I', session_user));
select sqlkit_test.as_admin(pg_catalog.format('grant pg_execute_server_program to %I', session_user));
select sqlkit_test.as_admin(pg_catalog.format('grant pg_read_server_files to %I', session_user));
create server "My ""files""" foreign data wrapper file_fdw;
create server other foreign data wrapper file_fdw;
create user mapping for current_user server "My ""files""";
create user mapping for public server "My ""files""";
select sqlkit_test.create_schema('Over there');
create foreign table "Over there"."A ""b""" (a text) server "My ""files""" options (program 'echo a');
create foreign table "Over there".c (a text) server "My ""files""" options (program 'echo a');
create view uses as select * from "Over there".c;
select throws_ok($$select sqlkit.drop_server('My "files"')$$, '2BP01', null, 'something uses a table');
drop view uses;
select is(sqlkit.drop_server('My "files"'), 2::bigint, 'its tables');
select is((select array_agg(s.srvname::text) from pg_foreign_server as s), '{other}', 'the other one stays');
select is((select count(*) from pg_foreign_table), 0::bigint, 'no tables are left');
select is(sqlkit.drop_server('other'), 0::bigint, 'without tables');
select throws_ok($$select sqlkit.drop_server('other')$$, 'SK807', null, 'no such server');

select * from finish();
rollback;
