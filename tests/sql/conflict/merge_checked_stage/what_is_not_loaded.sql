-- Columns that are not loaded: a new row has their defaults, one that is there keeps what it has, and what is computed
-- is computed before it is compared.
begin;
select plan(6);

create table public.stay (
    id integer primary key,
    room integer default 7,
    starts integer,
    nights integer default 2,
    ends integer generated always as (starts + nights) stored
);
insert into public.stay values (1, 7, 10, 5), (2, 8, 10, 1);
select sqlkit.define_overlap('stays', 'public.stay', array['room'], 'starts', 'ends');
select sqlkit.create_stage('public.stay', array['id', 'starts'], 'stay_today');
insert into sqlkit_stage.stay_today values
(2, 11), (3, 14), (4, 15), (5, 16), (6, 17);
select is(
    sqlkit_test.shown(sqlkit.merge_checked_stage('sqlkit_stage.stay_today', 'reject')),
    '5 read, 2 inserted, 1 updated, 2 rejected',
    'those that are in the way are refused'
);
select results_eq(
    'select id, room, starts, ends from public.stay order by 1',
    'values (1, 7, 10, 15), (2, 8, 11, 12), (4, 7, 15, 17), (6, 7, 17, 19)',
    'and no others'
);
select is((sqlkit.detect_conflicts('stays')).pairs_open, 0::bigint, 'nothing is left to find');
delete from public.stay
where id > 2;
update public.stay set starts = 10
where id = 2;
insert into sqlkit_stage.stay_today values
(2, 11), (3, 14), (4, 15), (5, 16), (6, 17);
select is(
    sqlkit_test.shown(sqlkit.merge_checked_stage('sqlkit_stage.stay_today', 'trim')),
    '5 read, 2 inserted, 1 updated, 2 rejected',
    'what is computed cannot be cut'
);
delete from public.stay
where id > 2;
insert into sqlkit_stage.stay_today values
(3, 14), (4, 15), (5, 16), (6, 17);
select is(
    sqlkit_test.shown(sqlkit.merge_checked_stage('sqlkit_stage.stay_today', 'reject', 'append')),
    '4 read, 2 inserted, 2 rejected',
    'where rows are only appended, too'
);
select is((sqlkit.detect_conflicts('stays')).pairs_open, 0::bigint, 'nothing is left to find');

select * from finish();
rollback;
