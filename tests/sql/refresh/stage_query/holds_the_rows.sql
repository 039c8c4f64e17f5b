begin;
select plan(6);

create table item (id integer primary key, name text, twice integer generated always as (id * 2) stored);
create table feed (name text, id bigint);
insert into feed values ('a', 1), ('b', 2);

select sqlkit.stage_query('item', 'select name, id from feed; ') as stage \gset
select results_eq(
    pg_catalog.format('select id, name from %s order by id', :'stage'),
    $$values (1, 'a'), (2, 'b')$$,
    'rows by name'
);
select is(
    (select target from sqlkit.stage),
    'public.item',
    'it is a stage of the target'
);
select is(
    sqlkit_test.shown(sqlkit.refresh_stage(:'stage', 'mirror')),
    'mirror: 2 read, 2 inserted',
    'to be refreshed from'
);
select lives_ok(
    $$select sqlkit.stage_query('item', 'select 1 as id -- no more', p_name => 'today')$$,
    'a comment may end it, and the stage may have a name'
);
select throws_ok($$select sqlkit.stage_query('item', 'select 1 as di')$$, 'SK204', null, 'a column of no such name');
select throws_ok($$select sqlkit.stage_query('item', 'select * from item')$$, 'SK205', null, 'a generated one');

select * from finish();
rollback;
