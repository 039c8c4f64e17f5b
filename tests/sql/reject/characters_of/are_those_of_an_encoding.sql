begin;
select plan(6);

select is(
    sqlkit.characters_of('LATIN1')::text,
    array(select p.point from pg_catalog.generate_series(128, 255) as p (point))::text,
    'each of them, in order'
);
select ok(
    pg_catalog.arraycontains(sqlkit.characters_of('EUC_JIS_2004'), '{28450,131083}'),
    'of two bytes or four, of one plane or another'
);
select is(
    pg_catalog.array_positions(sqlkit.characters_of('EUC_JP'), 44034)::text, '{}', 'and no others'
);
select is(
    pg_catalog.array_positions(sqlkit.characters_of('EUC_JP'), 8254)::text, '{}', 'not even those of a codec'
);
select throws_ok($$select sqlkit.characters_of('TLHINGAN')$$, '22023', null, 'there is no such encoding');
select throws_ok(
    $$select sqlkit.characters_of('MULE_INTERNAL')$$, '42883', null, 'one to which nothing is converted'
);

select * from finish();
rollback;
