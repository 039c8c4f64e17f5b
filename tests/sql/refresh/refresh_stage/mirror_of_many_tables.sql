-- Partitions, keys that may be null, triggers that hold back, odd names.
begin;
select plan(15);

create table part (id integer, region text, name text, primary key (id, region)) partition by list (region);
create table part_a partition of part for values in ('a');
create table part_b partition of part for values in ('b');
insert into part
select
    n,
    r,
    'x'
from generate_series(1, 5) as n,
    pg_catalog.unnest(array['a', 'b']) as r;
select is(
    sqlkit_test.shown(sqlkit_test.refresh('part', $$values (1, 'a', 'x'), (2, 'a', 'y'), (6, 'b', 'z')$$, 'mirror')),
    'mirror: 3 read, 1 inserted, 1 updated, 1 unchanged, 8 deleted',
    'a partitioned table'
);
select results_eq(
    'select id, region, name from part order by 1, 2',
    $$values (1, 'a', 'x'), (2, 'a', 'y'), (6, 'b', 'z')$$,
    'rows that lie at the same place of different partitions are not mixed up'
);

create table loose (id integer unique, name text);
insert into loose values (null, 'a'), (null, 'b'), (1, 'c');
select is(
    sqlkit_test.shown(sqlkit_test.refresh('loose', $$values (null, 'a'), (1, 'c')$$, 'mirror', p_key => '{id}')),
    'mirror: 2 read, 1 inserted, 1 unchanged, 2 deleted',
    'a key that is null equals none: such rows are replaced'
);
select results_eq('select * from loose order by 1', $$values (1, 'c'), (null, 'a')$$, 'and the end is the same');

create table guarded (id integer primary key);
insert into guarded values (1), (2), (3);
create function pg_temp.keep_two()
returns trigger
language plpgsql
as $keep_two$
begin
    if old.id = 2 then
        return null;
    end if;
    return old;
end;
$keep_two$;
create trigger keep_two before delete on guarded for each row execute function pg_temp.keep_two();
select is(
    sqlkit_test.shown(sqlkit_test.refresh('guarded', 'values (1)', 'mirror')),
    'mirror: 1 read, 1 unchanged, 1 deleted',
    'what a trigger kept is not counted as deleted'
);

create table odd (id integer primary key);
select sqlkit_test.create_schema(n.name)
from sqlkit_test.odd_identifiers() as n (name);
create function pg_temp.refresh_odd(p_name name)
returns text
language plpgsql
as $refresh_odd$
begin
    execute pg_catalog.format('create table %1$I.%1$I (%1$I integer primary key, "%2$s" integer)', p_name, 'Scope "" it');
    execute pg_catalog.format('insert into %1$I.%1$I values (1, 1), (2, 1), (3, 2)', p_name);
    return is(
        sqlkit_test.shown(sqlkit_test.refresh(
            pg_catalog.format('%1$I.%1$I', p_name)::regclass, 'values (1, 1)', 'mirror', array['Scope " it']
        )),
        'mirror: 1 read, 1 unchanged, 1 deleted',
        p_name
    );
end;
$refresh_odd$;
select pg_temp.refresh_odd(n.name)
from sqlkit_test.odd_identifiers() as n (name);

create table keyless (id integer);
select throws_ok($$select sqlkit_test.refresh('keyless', 'values (1)', 'mirror')$$, 'SK202', null, 'it needs a key');

select * from finish();
rollback;
