-- A duplicate is an index without which nothing is missing; partitioned indexes count with their partitions.
begin;
select plan(3);

create table item (a integer, b integer, c integer, d integer);
create unique index a_nulls_differ on item (a);
create unique index a_nulls_equal on item (a) nulls not distinct;
create unique index b_free on item (b);
create unique index b_referred on item (b);
create table referring (b integer references item (b));
alter table item add constraint c_later unique (c) deferrable;
create unique index c_at_once on item (c);
create index d_old on item (d);
create unique index d_new on item (d);

create view pg_temp.found as
select
    p.problem,
    replace(p.statement, 'public.', '') as statement
from sqlkit.find_problems(8192) as p;
-- Which of two the foreign key took is its own affair.
select results_eq(
    $$select statement from found where problem = 'duplicate index' and statement !~ ' b_' order by 1$$,
    $$values ('drop index concurrently a_nulls_differ'), ('drop index concurrently d_old')$$,
    'what keeps out less than the other, and as late'
);
do $$
begin
    execute (
        select replace(f.statement, 'concurrently ', 'public.') from pg_temp.found as f where f.statement like '% b\_%'
    );
end $$;
select is_empty(
    $$select from found where statement like '%drop index% b\_%'$$, 'the one that no foreign key needs could be dropped'
);

create table parted (id integer, amount integer) partition by range (id);
create table part_1 partition of parted for values from (0) to (1000);
create table part_2 partition of parted for values from (1000) to (10000);
create index amount_1 on parted (amount);
create index amount_2 on parted (amount);
insert into parted select
    i,
    9999 - i
from generate_series(0, 9999) as i;
select results_eq(
    $$select problem, statement from found where statement like '%amount%' order by 1, 2$$,
    $$values ('duplicate index', 'drop index amount_2'),
    ('unused index', 'drop index amount_1'),
    ('unused index', 'drop index amount_2')$$,
    'of a partitioned table, as a whole'
);
select * from finish();
rollback;
