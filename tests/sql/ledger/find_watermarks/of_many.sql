begin;
select plan(3);

create table item (id integer primary key);
create table other (id integer primary key);
select sqlkit_test.create_schema('Odd.');
create table "Odd."."It""em" (id integer primary key);
select sqlkit.set_watermark('item', 's1', 'c', '1');
select sqlkit.set_watermark('item', 's2', 'c', '2');
select sqlkit.set_watermark('item', 's3', 'another', '3');
select sqlkit.set_watermark('other', 's1', 'c', '4');
select results_eq(
    $$select source, value from sqlkit.find_watermarks('item', array['s1', 's2', 's3', 's4', null], 'c') order by 1$$,
    $$values ('s1', '1'), ('s2', '2')$$,
    'those that have one, of this target and column'
);
select is_empty($$select * from sqlkit.find_watermarks('item', '{}', 'c')$$, 'none of none');
select sqlkit.set_watermark('"Odd."."It""em"', 's ''"', 'Ünusual "c', '5');
select results_eq(
    $$select source, value from sqlkit.find_watermarks('"Odd."."It""em"', array['s ''"'], 'Ünusual "c')$$,
    $$values ('s ''"', '5')$$,
    'of any name'
);

select * from finish();
rollback;
