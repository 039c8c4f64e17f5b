begin;
select plan(6);

create table item (id integer primary key, name text, price numeric(8, 2), seen timestamptz, document jsonb);
insert into item
select
    n,
    'name ' || n,
    n / 4.0,
    '2024-01-01'::timestamptz + n * interval '1 hour',
    jsonb_build_object('n', n)
from generate_series(1, 2000) as n;
create temporary table was as
select
    id,
    ctid as place,
    xmin::text as writer
from item;

select is(
    sqlkit_test.shown(sqlkit_test.merge('item', 'select * from item')),
    '2000 read, 2000 unchanged',
    'the same rows again'
);
select results_eq(
    'select id, ctid, xmin::text from item order by id',
    'select id, place, writer from was order by id',
    'not one of them was written'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'item',
            $$select id, case when id % 100 = 0 then name || '!' else name end, price, seen, document from item$$
        )
    ),
    '2000 read, 20 updated, 1980 unchanged',
    'one in a hundred is another'
);
select results_eq(
    $$select i.id from item as i join was as w using (id) where i.ctid <> w.place order by i.id$$,
    'select n * 100 from generate_series(1, 20) as n',
    'only those were written'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('item', 'select * from item', 'fill')),
    '2000 read, 2000 unchanged',
    'fill writes nothing either'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('item', 'select * from item', 'newer', p_order_by => 'seen')),
    '2000 read, 2000 unchanged',
    'nor does newer'
);

select * from finish();
rollback;
