begin;
select plan(2);

select matches(sqlkit.oldest_client(), '^\d+\.\d+\.\d+$', 'a version');
select is(
    greatest(
        string_to_array(sqlkit.oldest_client(), '.')::integer[], string_to_array(sqlkit.version(), '.')::integer[]
    )::text,
    string_to_array(sqlkit.version(), '.')::text,
    'the package of a release works with its schema'
);

select * from finish();
rollback;
