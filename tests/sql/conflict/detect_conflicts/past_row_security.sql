-- Who is shown a part of the rows only would close what others found, and overlook what they would find.
begin;
select plan(5);

create table public.stay (id integer primary key, hotel text, room integer, starts integer, ends integer);
insert into public.stay values (1, 'x', 1, 0, 5), (2, 'x', 1, 3, 8), (3, 'y', 2, 0, 5), (4, 'y', 2, 3, 8);
create view public.mine as select * from public.stay
where hotel = 'x';
select sqlkit_test.create_plain_role() as role \gset
select sqlkit_test.grant_sqlkit(:'role');
select sqlkit_test.grant_on('public.stay', :'role', 'all');
select sqlkit_test.grant_on('public.mine', :'role', 'select');
create policy of_hotel on public.stay using (hotel = 'x');
alter table public.stay enable row level security;
select sqlkit.define_overlap('stays', 'public.stay', array['room'], 'starts', 'ends');
select sqlkit.define_overlap('mine', 'public.mine', array['room'], 'starts', 'ends', p_key => array['id']);
select is((sqlkit.detect_conflicts('stays')).pairs_opened, 2::bigint, 'the owner sees all');
select set_config('role', :'role', true);
select throws_ok(
    $$select sqlkit.detect_conflicts('stays', true)$$, '42501', null, 'others are refused'
);
select is((sqlkit.detect_conflicts('mine')).pairs_opened, 1::bigint, 'a view may be what they see');
select sqlkit.create_stage('public.stay', p_name => 'stay_today');
insert into sqlkit_stage.stay_today values (5, 'x', 2, 1, 2);
select throws_ok(
    $$select sqlkit.merge_checked_stage('sqlkit_stage.stay_today', 'reject')$$, '42501', null,
    'and no batch is held to what they do not see'
);
reset role;
select is((sqlkit.detect_conflicts('stays', true))::text, '(0,0,0,2,t)', 'nothing was closed');

select * from finish();
rollback;
