-- Null, and nothing done, where the indexes cannot be taken away for the time of a load.
begin;
select plan(24);

create function pg_temp.pass()
returns trigger
language plpgsql
as $pass$
begin
    return new;
end;
$pass$;

create table filled (id integer primary key);
insert into filled values (1);
create table part (id integer primary key) partition by range (id);
create table part_1 partition of part for values from (1) to (9);
create table parent (id integer primary key);
create table child () inherits (parent);
create table triggered (id integer primary key);
create trigger pass before insert on triggered for each row execute function pg_temp.pass();
create table referenced (id integer primary key);
create table referring (id integer references referenced);
create table excluding (id integer primary key, span int4range, exclude using gist (span with &&));
create table loosely (id integer unique nulls not distinct);
create table secured (id integer primary key);
create table ruled (id integer primary key);
do $make_rule$
begin
    create rule nothing as on insert to ruled do also nothing;
end
$make_rule$;
create table published (id integer primary key);
select sqlkit_test.as_admin('create publication a_publication for table public.published');
create table estimated (id integer primary key, name text);
create index estimated_idx on estimated ((lower(name)));
alter index estimated_idx alter column 1 set statistics 500;
create table grouped (id integer primary key, name text);
create view grouped_view as
select
    id,
    name
from grouped
group by id;

select
    is(
        sqlkit.begin_first_load(k.relation::regclass),
        null,
        k.relation || ': ' || coalesce(sqlkit._first_load_obstacle(k.relation::regclass), 'it holds rows')
    )
from (
    values
    ('filled'), ('part'), ('part_1'), ('parent'), ('triggered'), ('referenced'), ('excluding'), ('loosely'), ('ruled'),
    ('published'), ('estimated'), ('grouped')
) as k (relation);
select
    isnt_empty(
        format('select from pg_catalog.pg_index where indrelid = %L::regclass', k.relation),
        k.relation || ' has its indexes'
    )
from (
    values
    ('filled'),
    ('triggered'),
    ('referenced'),
    ('excluding'),
    ('loosely'),
    ('ruled'),
    ('published'),
    ('estimated'),
    ('grouped')
) as k (relation);

-- Another's table, and row security, as a plain role.
create table open_to_all (id integer primary key);
select sqlkit_test.create_plain_role() as role \gset
select sqlkit_test.grant_sqlkit(:'role');
select sqlkit_test.grant_on('open_to_all', :'role', 'all');
select set_config('role', :'role', true);
select is(sqlkit.begin_first_load('open_to_all'), null, 'another role owns it');
reset role;

alter table secured enable row level security, force row level security;
alter table secured owner to current_user;
select is(
    sqlkit.begin_first_load('secured') is null,
    row_security_active('secured'),
    'row security, unless it does not apply to the caller'
);
create unlogged table quick (id integer primary key);
select isnt(sqlkit.begin_first_load('quick'), null, 'an unlogged table can');

select * from finish();
rollback;
