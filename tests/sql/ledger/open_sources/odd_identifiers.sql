begin;
select plan(4);

create table public."Odd ""item" (id integer primary key);
select sqlkit.open_source('public."Odd ""item"', 'half.csv', 'csv', 100, 'hash b', false, '{"policy": "append"}');
update sqlkit.source set next_offset = 50;

create function pg_temp.sources(p_manner jsonb, p_again boolean)
returns jsonb
language sql
return (
    select
        pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
            'name', f.name, 'format', 'csv', 'size_bytes', 10, 'fingerprint', 'hash ' || f.name, 'again', p_again,
            'manner', p_manner
        ) order by f.position)
    from pg_catalog.unnest('{c,a,b}'::text[]) with ordinality as f (name, position)
);

select results_eq(
    $$select fingerprint, next_offset, state, generation, manner
    from sqlkit.open_sources('public."Odd ""item"', pg_temp.sources('{"policy": "append"}', false))$$,
    $$values
    ('hash c', 0::bigint, 'loading', 1, '{"policy": "append"}'::jsonb), ('hash a', 0, 'loading', 1, '{"policy": "append"}'),
    ('hash b', 50, 'loading', 1, '{"policy": "append"}')$$,
    'new ones and known ones'
);
select is((select count(*) from sqlkit.source), 3::bigint, 'each is there once');
select throws_ok(
    $$select sqlkit.open_sources('public."Odd ""item"', pg_temp.sources('{"policy": "update"}', false))$$,
    'SK410',
    null,
    'part of one was loaded in another manner'
);
update sqlkit.source set state = 'loaded', loaded_at = pg_catalog.now();
select results_eq(
    $$select generation, state
    from sqlkit.open_sources('public."Odd ""item"', pg_temp.sources('{"policy": "append"}', true))$$,
    $$values (2, 'loading'), (2, 'loading'), (2, 'loading')$$,
    'all once more'
);

select * from finish();
rollback;
