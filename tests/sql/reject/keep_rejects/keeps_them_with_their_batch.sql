begin;
select plan(3);

create table item (id integer primary key);
select sqlkit.start_run('load', 'item') as run \gset
select source_id as source from sqlkit.open_source('item', 'a.csv', 'csv') \gset
insert into sqlkit.reject (run_id, source_id, first_line, last_line, raw, sqlstate, message)
values (:run, :source, 2, 2, 'only told', '22P02', 'no number');
select sqlkit.record_batch(
    :run, :source, (0, 9, 2, 3, 9, null, false)::sqlkit.source_range, (2, 1, 0, 0, 0, 0, 1)::sqlkit.row_counts
) as batch \gset
select sqlkit.keep_rejects(:run, :source, 0, '[[2, 3, "it''s \"raw\"", "id", "22P02", "no number"]]');
select results_eq(
    'select run_id, batch_id, source_id, first_line, last_line, raw, column_name::text, sqlstate from sqlkit.reject',
    format(
        $$values (%s::bigint, %s::bigint, %s::bigint, 2::bigint, 3::bigint, 'it''s "raw"', 'id', '22P02')$$,
        :run, :batch, :source
    ),
    'in the place of what was only told before'
);
select sqlkit.keep_rejects(:run, :source, 0, '[[7, 9, "raw", null, "22P02", "no number", 2]]');
select results_eq(
    'select first_line, last_line, record from sqlkit.reject order by reject_id',
    'values (2::bigint, 3::bigint, null::bigint), (7, 9, 2)',
    'with the number of the record, where it is not a matter of lines'
);
select sqlkit.keep_rejects(:run, :source, 5, '[[4, 4, "raw", null, "22P02", "no number"]]');
select is((select count(*) from sqlkit.reject), 2::bigint, 'there is no batch that begins there');

select * from finish();
rollback;
