-- A dimension's version counts the changes that a cache has to know of, and no others.
begin;
select plan(7);

create table product (product_id integer primary key, code text unique, name text);
insert into product values (1, 'a', 'x'), (2, 'b', 'y');
select is(sqlkit.lookup_version('product'), null, 'nobody follows it');
select sqlkit.follow_keys('product', 'product_id', array['code']);
select is(sqlkit.lookup_version('product'), 1::bigint, 'followed');
insert into product values (3, 'c', 'z');
update product set name = 'w';
select is(sqlkit.lookup_version('product'), 1::bigint, 'new keys and other columns disturb nobody');
update product set code = 'd'
where product_id = 3;
select is(sqlkit.lookup_version('product'), 2::bigint, 'a key that changed does');
delete from product
where product_id = 3;
select is(sqlkit.lookup_version('product'), 3::bigint, 'and one that is gone');
truncate product;
select is(sqlkit.lookup_version('product'), 4::bigint, 'and all of them');
select throws_ok($$select sqlkit.follow_keys('product', 'id', array['code'])$$, 'SK204', null, 'no such column');

select * from finish();
rollback;
