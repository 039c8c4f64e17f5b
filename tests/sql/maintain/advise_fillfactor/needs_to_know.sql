begin;
select plan(2);

-- Statistics are told of when a transaction has ended: tests/maintain/test_tune.py has advice.
create table "a price" (id integer primary key, amount integer);
insert into "a price" (id) select n from generate_series(1, 2000) as n;
update "a price" set amount = 1
where id <= 1000;
select is_empty($$select * from sqlkit.advise_fillfactor('"a price"')$$, 'nobody knows of changes yet');
select throws_ok($$select * from sqlkit.advise_fillfactor('nothing')$$, '42P01', null, 'no such table');

select * from finish();
rollback;
