begin;
select plan(2);

create table item (id integer primary key);
select sqlkit.start_run('load', 'item') as run \gset
insert into sqlkit.reject (run_id, first_line, raw, sqlstate, message)
select
    :run,
    i,
    'x',
    '22P02',
    'no number'
from generate_series(1, 3) as i;
select results_eq(
    'select run_id, target, rejects from sqlkit.open_reject',
    format($$values (%s::bigint, 'public.item', 3::bigint)$$, :run),
    'those of each run'
);
select sqlkit.settle_rejects(:run, 'dismissed');
select is_empty('select from sqlkit.open_reject', 'until they are settled');

select * from finish();
rollback;
