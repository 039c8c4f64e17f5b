-- Whether indexes were kept, and why, is kept with the batch that it was decided for.
begin;
select plan(5);

create table price (id integer primary key, amount integer);
create index price_amount on price (amount);
create function pg_temp.decided()
returns text
language sql
begin atomic
    select b.indexes
    from sqlkit.batch as b
    order by b.batch_id desc
    limit 1;
end;
select sqlkit_test.as_admin($$insert into sqlkit.refresh_threshold (name, value) values ('rebuild_rows', 100)$$);

select sqlkit_test.merge('price', 'select n, n from generate_series(1, 10) as n');
select is(pg_temp.decided(), 'kept: 10 rows are fewer than 100 (rebuild_rows)', 'few rows');
select sqlkit_test.merge('price', 'select n, n from generate_series(11, 1000) as n');
select is(pg_temp.decided(), '1 built after the rows', 'many rows');
select sqlkit_test.merge('price', 'select n, n from generate_series(1001, 1101) as n');
select is(
    pg_temp.decided(), 'kept: 101 rows are 9.2% of the table, less than 10% (rebuild_share)', 'a small share'
);
select sqlkit_test.refresh('price', 'select n, n from generate_series(1, 200) as n', 'truncate');
select is(pg_temp.decided(), '2 built after the rows: 200, at least 100 (rebuild_rows)', 'a refresh, all of them');
drop index price_amount;
select sqlkit_test.merge('price', 'select n, n from generate_series(1001, 1101) as n');
select is(pg_temp.decided(), null, 'without other indexes there is no question');

select * from finish();
rollback;
