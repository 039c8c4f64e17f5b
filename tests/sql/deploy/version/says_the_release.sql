begin;
select plan(1);

select matches(sqlkit.version(), '^\d+\.\d+\.\d+$', 'a version of three numbers');

select * from finish();
rollback;
