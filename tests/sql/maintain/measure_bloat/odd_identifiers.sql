-- needs: pgstattuple
begin;
select plan(2);

select sqlkit_test.as_admin('create extension pgstattuple schema public');
select sqlkit_test.as_admin(pg_catalog.format('grant pg_stat_scan_tables to %I', session_user));
select sqlkit_test.create_schema('Odd.');
create table "Odd."."It""em" (id integer constraint "Key of it" primary key);
insert into "Odd."."It""em"
select i
from generate_series(1, 1000) as i;
select is(
    (
        select array_agg(m.relation order by m.relation::text)
        from sqlkit.measure_bloat('"Odd."."It""em"') as m
    ),
    array['"Odd."."It""em"'::regclass, '"Odd."."Key of it"'::regclass],
    'a table and its index'
);
select is(
    (
        select m.live_rows
        from sqlkit.measure_bloat('"Odd."."It""em"') as m
        where m.kind = 'table'
    ),
    1000::bigint,
    'measured'
);

select * from finish();
rollback;
