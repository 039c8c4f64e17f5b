begin;
select plan(4);

create table item (id integer primary key);
select source_id as source from sqlkit.open_source('item', 'a.csv', 'csv') \gset
select source_id as other from sqlkit.open_source('item', 'b.csv', 'csv') \gset

select sqlkit.describe_source(:source, '{"delimiter": ";", "columns": ["a\"b", "עברית"]}');
select results_eq(
    'select source_id, layout from sqlkit.source where layout is not null',
    format($$values (%s::bigint, '{"delimiter": ";", "columns": ["a\"b", "עברית"]}'::jsonb)$$, :source),
    'of this source, whatever its columns are called'
);
select ctid as place from sqlkit.source
where source_id = :source \gset
select sqlkit.describe_source(:source, '{"columns": ["a\"b", "עברית"], "delimiter": ";"}');
select is(
    (
        select ctid from sqlkit.source
        where source_id = :source
    ),
    :'place'::tid,
    'the same again writes nothing'
);
select sqlkit.describe_source(:source, '{"delimiter": ","}');
select is(
    (
        select layout from sqlkit.source
        where source_id = :source
    ),
    '{"delimiter": ","}'::jsonb,
    'something else replaces it'
);
select lives_ok($$select sqlkit.describe_source(-1, '{}')$$, 'a source that is not there is no error');

select * from finish();
rollback;
