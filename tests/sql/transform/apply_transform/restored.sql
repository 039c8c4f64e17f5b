-- A dump brings rows whose transactions are yet to come where it was restored: none is missed.
begin;
select plan(3);

select sqlkit.create_raw_table('public.feed');
create table price (item text primary key);
insert into feed (raw_data, changed_in) values ('{"item": "a"}', '9000000000000');
insert into feed (raw_data) values ('{"item": "own"}');

select is(
    sqlkit.apply_transform('feed', 'price', 'select raw_data ->> ''item'' as item from pg_temp.sqlkit_changed')::text,
    '(2,2,2,0,0,0,0,0)',
    'all rows are seen at first'
);
select is(
    sqlkit.apply_transform('feed', 'price', 'select raw_data ->> ''item'' as item from pg_temp.sqlkit_changed')::text,
    '(0,0,0,0,0,0,0,0)',
    'and not again'
);
delete from feed
where raw_data ->> 'item' = 'a';
select is(
    sqlkit.apply_transform(
        'feed', 'price', 'select raw_data ->> ''item'' as item from pg_temp.sqlkit_changed', p_full => true
    )::text,
    '(0,0,0,0,0,0,0,0)',
    'what the own transaction has written is left for the next time'
);

select * from finish();
rollback;
