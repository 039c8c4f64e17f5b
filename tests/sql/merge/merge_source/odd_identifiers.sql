-- From any relation, by the columns that both have, from a watermark on; whatever their names.
begin;
select plan(9);

create table "A ""b""" (
    "The Key" integer primary key, "At!" timestamptz, "x y" text, twice integer generated always as (1) stored
);
create table origin ("The Key" integer, "At!" timestamptz, unknown text, twice integer, "x y" text);
insert into origin values (1, '2026-01-01Z', 'u', 2, 'a'), (2, '2026-01-02Z', 'u', 2, 'b'), (3, null, 'u', 2, 'c');
create view "The View" as select * from origin;
select is(
    sqlkit_test.shown(sqlkit.merge_source('"A ""b"""', '"The View"', 'update', 'At!')),
    '3 read, 3 inserted', 'nothing is there: everything'
);
insert into origin values
(4, '2026-01-02Z', 'u', 2, 'd'), (5, '2026-01-03Z', 'u', 2, 'e'), (6, '2025-01-01Z', '', 0, 'f');
select is(
    sqlkit_test.shown(sqlkit.merge_source('"A ""b"""', '"The View"', 'update', 'At!')),
    '3 read, 2 inserted, 1 unchanged', 'from the greatest value on'
);
select is(
    sqlkit_test.shown(sqlkit.merge_source('"A ""b"""', '"The View"', 'ignore', 'At!', '2025-01-01Z')),
    '5 read, 1 inserted, 4 ignored', 'from a value that is said'
);
select results_eq(
    'select "The Key", "x y" from "A ""b""" order by 1',
    $$values (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e'), (6, 'f')$$, 'the end state'
);
select is((select count(*) from sqlkit.stage), 0::bigint, 'no stage is left');
select is(
    (select array_agg(distinct r.kind || ' ' || r.state) from sqlkit.run_summary as r), '{merge done}', 'as runs'
);
create table nothing (z integer);
select throws_ok($$select sqlkit.merge_source('origin', 'nothing', 'append')$$, 'SK204', null, 'nothing in common');
select throws_ok(
    $$select sqlkit.merge_source('"A ""b"""', 'origin', 'update', 'unknown')$$, 'SK204', null, 'no such watermark'
);
select throws_ok($$select sqlkit.merge_source('"The View"', 'origin', 'append')$$, 'SK201', null, 'no table');

select * from finish();
rollback;
