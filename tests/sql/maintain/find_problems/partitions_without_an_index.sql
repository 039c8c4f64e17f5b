-- An index of a partitioned table that some partitions lack is invalid; each remedy is carried out.
begin;
select plan(8);

select sqlkit_test.create_schema('My "shop"');
set local search_path = "My ""shop""", public;
create table parted (id integer not null, amount integer not null, day integer not null) partition by range (id);
create table "Part ""1" partition of parted for values from (0) to (10);
create table part_2 partition of parted for values from (10) to (20);
create table part_3 partition of parted for values from (20) to (30) partition by range (day);
create table part_3_1 partition of part_3 for values from (0) to (10);
create unique index "On ""amount" on only parted (amount desc, id, day) where amount > 0;
create unique index by_hand on "Part ""1" (amount desc, id, day) where amount > 0;
create index other_way on part_2 (amount, id, day) where amount > 0;

create view pg_temp.found as
select
    p.weight,
    p.relation,
    p.detail,
    replace(p.statement, 'concurrently ', '') as statement
from sqlkit.find_problems() as p
where p.problem = 'incomplete index';
create function pg_temp.mend()
returns void
language plpgsql
as $mend$
declare
    r_found record;
begin
    for r_found in select f.statement from pg_temp.found as f loop
        execute r_found.statement;
    end loop;
end;
$mend$;
create view pg_temp.invalid as
select x.relname
from pg_catalog.pg_index as i
join pg_catalog.pg_class as x on x.oid = i.indexrelid
where not i.indisvalid and x.relnamespace = '"My ""shop"""'::regnamespace;

select results_eq(
    'select weight, relation, detail from found',
    $$values (
        70,
        '"My ""shop"""."On ""amount"',
        'It is invalid as long as a partition has no valid one attached, and keeps nothing unique: '
        '"My ""shop"""."Part ""1" has none, "My ""shop""".part_2 has none, "My ""shop""".part_3 has none.'
    )$$,
    'which partitions have none'
);
select pg_temp.mend();
select is_empty('select from found', 'the remedy helps');
select is_empty('select from invalid', 'and the index is valid');
select is(
    (
        select count(*) from pg_catalog.pg_index as i
        where i.indrelid = '"Part ""1"'::regclass
    ), 1::bigint, 'what was built before is attached, and nothing is built twice'
);

-- A partition whose index was invalid when it was attached, and is so no more.
create index later on only parted (day);
create index later_1 on "Part ""1" (day);
create index later_2 on part_2 (day);
create index later_3 on part_3 (day);
select sqlkit_test.as_admin(
    $$update pg_catalog.pg_index set indisvalid = false where indexrelid = '"My ""shop""".later_2'::regclass$$
);
alter index later attach partition later_1;
alter index later attach partition later_2;
alter index later attach partition later_3;
reindex index later_2;
select results_eq('select relation from found', $$values ('"My ""shop""".later')$$, 'nobody has looked again');
-- Attaching an index once more makes old minor releases look at nothing, such as 16.2.
create function pg_temp.looks_again()
returns boolean
language plpgsql
as $looks_again$
declare
    v_looks boolean;
begin
    alter index later attach partition later_2;
    v_looks := not exists (select from pg_temp.invalid);
    raise exception 'undone';
exception
    when raise_exception then
        return v_looks;
end;
$looks_again$;
select pg_temp.looks_again() as looks_again \gset
select pg_temp.mend();
\if :looks_again
select is_empty('select from invalid', 'the remedy looks again');
\else
select skip('this release does not look at an index again that is attached');
\endif
drop index later;

-- A key: its index belongs to a constraint, in each partition too.
create table keyed (id integer not null) partition by range (id);
create table keyed_1 partition of keyed for values from (0) to (10);
alter table only keyed add constraint keyed_pkey primary key (id);
select results_eq('select relation from found', $$values ('"My ""shop""".keyed_pkey')$$, 'a key of no partition');
select pg_temp.mend();
select is_empty('select from invalid', 'is made a key of each');

select * from finish();
rollback;
