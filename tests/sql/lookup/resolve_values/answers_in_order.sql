-- The ids of some keys, one for each, in their order; what is missing is made.
begin;
select plan(6);

create table shelf (id bigint generated always as identity primary key, shop integer, code text, unique (code, shop));
insert into shelf (shop, code) values (1, 'a');
select is(
    array(
        select v.id
        from sqlkit.resolve_values(
            '[[1, "b"], ["1", "a"], [1, null], [2, "a"], [1, "b"]]', 'shelf', 'id', array['shop', 'code']
        ) as v
    ),
    array['2', '1', null, '3', '2'],
    'each has its id'
);
select is((select count(*) from shelf), 3::bigint, 'each key once');
select is(
    array(select v.id from sqlkit.resolve_values('[[9, "z"]]', 'shelf', 'id', array['shop', 'code'], false) as v),
    array[null::text],
    'or is not made'
);
select throws_ok(
    $$select sqlkit.resolve_values('[["a"]]', 'shelf', 'id', array['code'])$$, 'SK203', null, 'half a key'
);
select throws_ok(
    $$select sqlkit.resolve_values('[]', 'shelf', 'ids', array['shop', 'code'])$$, 'SK204', null, 'no such column'
);
select throws_ok(
    $$select sqlkit.resolve_values('[["a", "a"]]', 'shelf', 'id', array['shop', 'code'])$$,
    '22P02', null, 'a text that is no number'
);

select * from finish();
rollback;
