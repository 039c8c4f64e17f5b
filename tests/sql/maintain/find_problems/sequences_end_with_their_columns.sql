-- A sequence ends where it does, or where the narrowest column does that it fills; each remedy is carried out.
begin;
select plan(5);

create domain small_number as smallint;
create table item (
    a integer generated always as identity,
    b smallint,
    c small_number,
    d bigserial,
    e integer,
    f integer
);
create table parted (id integer generated always as identity) partition by range (id);
create sequence rising maxvalue 100;
create sequence falling increment -1 minvalue -100;
create sequence turning maxvalue 100 cycle;
create sequence turning_late maxvalue 100000 cycle;
create sequence of_default;
create sequence of_domain owned by item.c;
create sequence falling_too increment -1;
create sequence from_below minvalue -2147483648 start -2147483648 maxvalue 2147483647;
create sequence fresh maxvalue 2;
alter table item alter b set default pg_catalog.nextval('public.turning_late');
alter table item alter e set default pg_catalog.nextval('public.of_default');
alter table item alter f set default pg_catalog.nextval('public.falling_too');
select setval(s.name::regclass, s.value)
from (
    values
    ('rising', 80), ('falling', -80), ('turning', 99), ('turning_late', 32000), ('of_default', 2000000000),
    ('of_domain', 32000), ('falling_too', -2000000000), ('from_below', 0), ('item_a_seq', 2000000000),
    ('item_d_seq', 9000000000000000000), ('parted_id_seq', 2000000000)
) as s (name, value);

create view pg_temp.found as
select
    replace(p.relation, 'public.', '') as relation,
    p.statement
from sqlkit.find_problems() as p
where p.problem = 'sequence near its end';
select bag_eq(
    'select relation, replace(statement, $$public.$$, $$$$) from found',
    $$values
    ('rising', 'alter sequence rising as bigint no maxvalue'),
    ('falling', 'alter sequence falling as bigint no minvalue'),
    (
        'turning_late',
        'alter table item alter column b type bigint; alter sequence turning_late as bigint no maxvalue'
    ),
    ('of_default', 'alter table item alter column e type bigint; alter sequence of_default as bigint no maxvalue'),
    ('of_domain', 'alter table item alter column c type bigint; alter sequence of_domain as bigint no maxvalue'),
    ('falling_too', 'alter table item alter column f type bigint; alter sequence falling_too as bigint no minvalue'),
    ('item_a_seq', 'alter table item alter column a type bigint; alter sequence item_a_seq as bigint no maxvalue'),
    (
        'item_d_seq',
        'alter sequence item_d_seq minvalue -9223372036854775808 restart with -9223372036854775808'
    ),
    ('parted_id_seq', 'alter sequence parted_id_seq minvalue -2147483648 restart with -2147483648')$$,
    'those that end; not one that is half used or begins anew by itself'
);
select matches(
    (
        select p.detail from sqlkit.find_problems() as p
        where p.relation = 'public.turning_late'
    ),
    '^It is at 32000 and ends at 32767: 97\.7% of its numbers are used, for public\.item\.b\.$',
    'how far it is'
);
do $$
declare
    r_found record;
begin
    for r_found in select f.statement from pg_temp.found as f loop
        execute r_found.statement;
    end loop;
end $$;
select is_empty('select from found', 'each remedy helps');
insert into item (c) values (pg_catalog.nextval('public.of_domain'));
select results_eq(
    'select a, b, c, e, f from item',
    'values (2000000001::bigint, 32001::bigint, 32001::bigint, 2000000001::bigint, -2000000001::bigint)',
    'and numbers go on'
);

create temporary sequence mine maxvalue 10;
select setval('mine', 9);
select alike(
    (select f.statement from found as f), 'alter sequence pg_temp%.mine as bigint no maxvalue', 'one of the session'
);

select * from finish();
rollback;
