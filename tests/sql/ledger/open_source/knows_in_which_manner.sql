begin;
select plan(11);

create table item (id integer primary key);
\set update '{"policy": "update"}'
\set append '{"policy": "append"}'

select source_id as first
from sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a', false, :'update') \gset
select is(
    (select manner from sqlkit.source), :'update'::jsonb, 'it is kept in which manner a source is loaded'
);
select is(
    (sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a', false, :'update')).source_id,
    :first::bigint,
    'the same content in the same manner is the same'
);
select isnt(
    (sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a', false, :'append')).source_id,
    :first::bigint,
    'in another manner it is not'
);
update sqlkit.source set state = 'loaded', loaded_at = now();
select is(
    (sqlkit.open_source('item', 'a.csv', 'csv', 100, 'hash a', false, :'update')).state,
    'loaded',
    'each manner has a state of its own'
);

-- Half loaded in one manner, it does not go on in another.
select source_id as half
from sqlkit.open_source('item', 'b.csv', 'csv', 100, 'hash b', false, :'append') \gset
update sqlkit.source set next_offset = 50
where source_id = :half;
select throws_ok(
    $$select sqlkit.open_source('item', 'b.csv', 'csv', 100, 'hash b', false, '{"policy": "fill"}')$$,
    'SK410',
    'part of the source was loaded in another way',
    'part of it was loaded in another manner'
);
select is(
    (sqlkit.open_source('item', 'b.csv', 'csv', 100, 'hash b', false, :'append')).source_id,
    :half::bigint,
    'as it was begun it goes on'
);
select source_id as anew
from sqlkit.open_source('item', 'b.csv', 'csv', 100, 'hash b', true, '{"policy": "fill"}') \gset
select isnt(:anew::bigint, :half::bigint, 'once more it begins from its beginning');
select is(
    (sqlkit.find_source('item', 'hash b', '{"policy": "fill"}')).source_id, :anew::bigint, 'and is found again'
);

-- Of what was loaded before 0.3.0 nobody has said in which manner.
select source_id as old from sqlkit.open_source('item', 'c.csv', 'csv', 100, 'hash c') \gset
select is((sqlkit.find_source('item', 'hash c', :'append')).source_id, :old::bigint, 'it may be any');
select is(
    (sqlkit.open_source('item', 'c.csv', 'csv', 100, 'hash c', false, :'append')).manner,
    :'append'::jsonb,
    'until it goes on in one'
);
select is((sqlkit.find_source('item', 'unheard of')).source_id, null, 'what was never opened is not found');

select * from finish();
rollback;
