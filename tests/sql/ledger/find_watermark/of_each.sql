begin;
select plan(5);

create table item (id integer primary key);
select sqlkit_test.create_schema('Odd.');
create table "Odd."."It""em" (id integer primary key);
select is(sqlkit.find_watermark('item', 's', 'c'), null, 'none yet');
select sqlkit.set_watermark('"Odd."."It""em"', 's ''"', 'Ünusual "c', '5');
select is(sqlkit.find_watermark('"Odd."."It""em"', 's ''"', 'Ünusual "c'), '5', 'of any name');
select is(sqlkit.find_watermark('item', 's ''"', 'Ünusual "c'), null, 'not of another target');
select is(sqlkit.find_watermark('"Odd."."It""em"', 's', 'Ünusual "c'), null, 'nor of another source');
select sqlkit.forget_sources('"Odd."."It""em"');
select is(sqlkit.find_watermark('"Odd."."It""em"', 's ''"', 'Ünusual "c'), null, 'forgotten with the sources');

select * from finish();
rollback;
