-- Only a dimension that is followed has a version.
begin;
select plan(2);

create table product (product_id integer primary key, code text unique);
select is(sqlkit.lookup_version('product'), null, 'nobody follows it');
select sqlkit.follow_keys('product', 'product_id', array['code']);
select is(sqlkit.lookup_version('product'), 1::bigint, 'somebody does');

select * from finish();
rollback;
