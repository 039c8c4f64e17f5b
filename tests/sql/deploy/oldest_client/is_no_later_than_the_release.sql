-- deployer: its own statements are not written for a hostile search_path
begin;
select plan(2);

select matches(sqlkit.oldest_client(), '^\d+\.\d+\.\d+$', 'a version');
select ok(
    string_to_array(sqlkit.oldest_client(), '.')::integer[] <= string_to_array(sqlkit.version(), '.')::integer[],
    'the package of a release works with its schema'
);

select * from finish();
rollback;
