-- Natural keys of a stage become ids; those that are missing are made; the order of the stage stays.
begin;
select plan(13);

create table product (
    product_id integer generated always as identity primary key, code text, shop integer, name text default 'n',
    is_late boolean, unique (code, shop)
);
insert into product (code, shop) values ('a', 1), ('b', 1);
create table sale (sale_id integer primary key, product_id integer, quantity integer);

select sqlkit.create_stage(
    'sale', array['sale_id', 'code', 'shop', 'product_id', 'quantity'], 'sold', array['code', 'shop']
);
insert into sqlkit_stage.sold (sale_id, code, shop, quantity) values
(9, 'b', '1', 1), (3, 'new', '1', 2), (5, 'a', '1', 3), (4, null, '1', 4), (1, 'new', '01', 5), (9, 'a', '2', 6);

select is(
    sqlkit.resolve_keys(
        'sqlkit_stage.sold', 'product_id', 'product', 'product_id', array['code', 'shop'], p_create => false
    )::text,
    '(6,2,4,0)',
    'what is there is found'
);
select is((select count(*) from product), 2::bigint, 'nothing is made');
select is(
    sqlkit.resolve_keys(
        'sqlkit_stage.sold', 'product_id', 'product', 'product_id', array['shop', 'code'],
        p_defaults => '{"is_late": true, "name": null}', p_placeholder => '-1'
    )::text,
    '(6,5,1,2)',
    'what is missing is made once'
);
select results_eq(
    'select code, shop, name, is_late from product where is_late order by code',
    $$values ('a', 2, null, true), ('new', 1, null, true)$$,
    'with what was said for a row that comes later'
);
select results_eq(
    'select s.sale_id, p.code, p.shop, s.product_id = -1, s.quantity from sqlkit_stage.sold as s '
    'left join product as p using (product_id) order by s.ctid',
    $$values (9, 'b', 1, false, 1), (3, 'new', 1, false, 2), (5, 'a', 1, false, 3), (4, null, null, true, 4),
    (1, 'new', 1, false, 5), (9, 'a', 2, false, 6)$$,
    'each row has its id, and its place'
);
select is(
    sqlkit_test.shown(sqlkit.merge_stage('sqlkit_stage.sold')), '6 read, 5 inserted, 1 duplicate', 'and is merged'
);

-- Another name in the stage, and a key that is of another type.
select sqlkit.create_stage('sale', array['sale_id', 'number', 'product_id'], 'numbered', array['number']);
insert into sqlkit_stage.numbered values (1, '2'), (2, '77');
create table thing (id integer primary key, number integer unique);
insert into thing values (20, 2);
select is(
    sqlkit.resolve_keys(
        'sqlkit_stage.numbered', 'product_id', 'thing', 'id', array['number'], p_create => false, p_placeholder => '0'
    )::text,
    '(2,1,1,0)',
    'a text that is a number'
);
select results_eq(
    'select sale_id, product_id from sqlkit_stage.numbered', 'values (1, 20), (2, 0)', 'or the placeholder'
);
insert into sqlkit_stage.numbered values (3, 'x');
select throws_ok(
    $$select sqlkit.resolve_keys('sqlkit_stage.numbered', 'product_id', 'thing', 'id', array['number'])$$,
    '22P02', null, 'a text that is none'
);
select throws_ok(
    $$select sqlkit.resolve_keys('sale', 'product_id', 'thing', 'id', array['number'])$$, 'SK208', null, 'no stage'
);
select throws_ok(
    $$select sqlkit.resolve_keys('sqlkit_stage.numbered', 'product_id', 'product', 'product_id', array['code'])$$,
    'SK203', null, 'half a key'
);
select throws_ok(
    $$select sqlkit.resolve_keys('sqlkit_stage.numbered', 'product', 'thing', 'id', array['number'])$$,
    'SK204', null, 'a column that is not there'
);
select is(
    array(
        select v.id
        from sqlkit.resolve_values('[["2"], [2], ["3"], [null]]', 'thing', 'id', array['number'], false) as v
    ),
    array['20', '20', null, null],
    'values by themselves'
);

select * from finish();
rollback;
