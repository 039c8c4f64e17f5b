begin;
select plan(2);

select matches(sqlkit.oldest_client(), '^\d+\.\d+\.\d+$', 'a version');
select ok(
    string_to_array(sqlkit.oldest_client(), '.')::integer[]
    operator(pg_catalog.<=) string_to_array(sqlkit.version(), '.')::integer[],
    'the package of a release works with its schema'
);

select * from finish();
rollback;
