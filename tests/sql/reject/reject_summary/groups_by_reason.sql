begin;
select plan(3);

create table item (id integer primary key);
select sqlkit.start_run('load', 'item') as run \gset
select source_id as source from sqlkit.open_source('item', 'a.csv', 'csv') \gset
insert into sqlkit.reject (run_id, source_id, first_line, last_line, raw, column_name, sqlstate, message)
values
(:run, :source, 3, 3, 'y,1', 'Odd "id"', '22P02', 'invalid input syntax for type integer: "y"'),
(:run, :source, 7, 7, 'x,1', 'Odd "id"', '22P02', 'invalid input syntax for type integer: "x"'),
(:run, :source, 5, 5, '1', null, '22P04', 'missing data for column "b"'),
(:run, :source, 6, 6, '1,2,3', null, '22P04', 'extra data after last expected column');

select results_eq(
    'select column_name::text, sqlstate, message, rejects, first_line, first_raw, first_message, is_told_only '
    'from sqlkit.reject_summary order by rejects desc, first_line',
    $$values
    (
        'Odd "id"', '22P02', null::text, 2::bigint, 3::bigint, 'y,1',
        'invalid input syntax for type integer: "y"', true
    ),
    (null, '22P04', 'missing data for column "b"', 1, 5, '1', 'missing data for column "b"', true),
    (
        null, '22P04', 'extra data after last expected column', 1, 6, '1,2,3',
        'extra data after last expected column', true
    )$$,
    'values of a column are one reason, whatever they are; each with its first example'
);
select results_eq(
    'select distinct run_id, target, state, source from sqlkit.reject_summary',
    format($$values (%s::bigint, 'public.item', 'open', 'a.csv')$$, :run),
    'with its run, target and source'
);
select sqlkit.settle_rejects(:run, 'dismissed', array(
    select reject_id from sqlkit.reject
    where first_line = 3
));
select results_eq(
    $$select state, rejects from sqlkit.reject_summary where sqlstate = '22P02' order by state$$,
    $$values ('dismissed', 1::bigint), ('open', 1)$$,
    'what is settled stands apart'
);

select * from finish();
rollback;
