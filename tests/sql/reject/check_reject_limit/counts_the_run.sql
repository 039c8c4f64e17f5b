begin;
select plan(5);

create table item (id integer primary key);
select sqlkit.start_run('load', 'item') as run \gset
insert into sqlkit.reject (run_id, first_line, last_line, raw, sqlstate, message)
values (:run, 2, 2, 'x', '22P02', 'no number');
select sqlkit.record_batch(:run, null, null, (10, 9, 0, 0, 0, 0, 1)::sqlkit.row_counts);

select lives_ok(format('select sqlkit.check_reject_limit(%s, 10, 1, 2, null)', :run), 'as many as the limit');
select throws_ok(
    format('select sqlkit.check_reject_limit(%s, 10, 2, 2, null)', :run),
    'SK301',
    'more rows were refused than the limit allows',
    'more, with those of batches before'
);
select lives_ok(format('select sqlkit.check_reject_limit(%s, 10, 1000, null, null)', :run), 'any number');
select throws_ok(format('select sqlkit.check_reject_limit(%s, 10, 5, null, 0.1)', :run), 'SK301', null, 'a share');
select lives_ok(format('select sqlkit.check_reject_limit(%s, 10, 0, 0, 0)', :run), 'none are never too many');

select * from finish();
rollback;
