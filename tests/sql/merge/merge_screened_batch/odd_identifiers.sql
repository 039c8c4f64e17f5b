begin;
select plan(2);

select sqlkit_test.create_schema('Odd.');
create table "Odd."."It""em" ("Key of it" integer primary key, "No 1" text);
select sqlkit.create_stage('"Odd."."It""em"', p_name => 'Stage') as stage \gset
insert into sqlkit_stage."Stage"
values (1, 'one'), (1, 'two');
select sqlkit.start_run('load', '"Odd."."It""em"') as run \gset
select is(
    sqlkit.merge_screened_batch(
        :run, null, (0, 9, 1, 3, 9, null, true)::sqlkit.source_range, array[:'stage'::regclass], '"Odd."."It""em"',
        'update', '{"Key of it"}', p_rows_rejected => 1
    ),
    (3, 1, 0, 0, 0, 1, 1)::sqlkit.row_counts,
    'tables and columns of any name'
);
select results_eq('select * from "Odd."."It""em"', $$values (1, 'two')$$, 'the last one stays');

select * from finish();
rollback;
