-- A stage knows which of its columns are ids: they are found, and missing ones made, when it is merged.
begin;
select plan(18);

create table public.product (
    product_id integer generated always as identity primary key, code text, shop integer, is_late boolean,
    unique (code, shop)
);
insert into public.product (code, shop) values ('a', 1);
create table public.land (land_id integer primary key, name text unique);
insert into public.land values (7, 'fr'), (8, 'at');
create table public.sale (
    sale_id integer primary key, product_id integer not null references public.product, from_id integer,
    to_id integer, quantity integer
);

select sqlkit.create_stage(
    'public.sale', array['sale_id', 'code', 'shop', 'origin', 'end', 'quantity'], 'sold',
    array['code', 'shop', 'origin', 'end']
);
select sqlkit.add_lookup(
    'sqlkit_stage.sold', 'product_id', 'public.product', array['code', 'shop'], p_defaults => '{"is_late": true}'
);
select sqlkit.add_lookup(
    'sqlkit_stage.sold', 'from_id', 'public.land', array['name'], array['origin'], p_create => false,
    p_placeholder => '0'
);
select sqlkit.add_lookup(
    'sqlkit_stage.sold', 'to_id', 'public.land', array['name'], array['end'], 'land_id', p_create => false
);
insert into sqlkit_stage.sold (sale_id, code, shop, origin, "end", quantity) values
(1, 'a', '1', 'fr', 'at', 1), (2, 'b', '1', 'xx', null, 2), (1, 'b', '01', 'at', 'fr', 3);
select is(
    sqlkit_test.shown(sqlkit.merge_stage('sqlkit_stage.sold')), '3 read, 2 inserted, 1 duplicate', 'it is merged'
);
select results_eq(
    'select s.sale_id, p.code, p.shop, p.is_late, s.from_id, s.to_id, s.quantity from public.sale as s '
    'join public.product as p using (product_id) order by s.sale_id',
    $$values (1, 'b', 1, true, 8, 7, 3), (2, 'b', 1, true, 0, null, 2)$$,
    'with the ids of all three, the last row of a key'
);
select is((select count(*) from public.product), 2::bigint, 'one product was missing, and is made once');
insert into sqlkit_stage.sold (sale_id, code, shop, quantity) values (3, 'c', '1', 1);
select sqlkit.merge_stage('sqlkit_stage.sold');
select is((select count(*) from public.product), 3::bigint, 'the stage is emptied, and may be filled again');

-- Held to rules, and as a whole new content.
insert into sqlkit_stage.sold (sale_id, code, shop, quantity) values (3, 'cc', '1', 1);
select is(
    sqlkit_test.shown(sqlkit.merge_checked_stage('sqlkit_stage.sold', 'reject')), '1 read, 1 updated', 'it is checked'
);
insert into sqlkit_stage.sold (sale_id, code, shop, quantity) values (3, 'c', '1', 1), (1, 'b', '1', 3);
select sqlkit.refresh_stage('sqlkit_stage.sold', 'mirror', p_delete_share => 1);
select results_eq(
    'select s.sale_id, p.code from public.sale as s join public.product as p using (product_id) order by s.sale_id',
    $$values (1, 'b'), (3, 'c')$$,
    'it is refreshed'
);

-- What is not merged is no key.
insert into sqlkit_stage.sold (sale_id, code, shop, quantity) values (4, 'd', '1', 1), (5, null, '1', 1);
select throws_ok($$select sqlkit.merge_stage('sqlkit_stage.sold')$$, '23502', null, 'a row without a key');
select is_empty($$select from public.product where code = 'd'$$, 'nothing is made');

-- The careful way: rows with errors are kept away, and make no keys.
select sqlkit.create_text_stage('public.sale', array['sale_id', 'code', 'shop', 'quantity']) as stage
\gset
select sqlkit.add_lookup(:'stage', 'product_id', 'public.product', array['code', 'shop']);
select lives_ok(
    pg_catalog.format(
        'insert into %s (sqlkit_first_line, sqlkit_last_line, sqlkit_raw, sale_id, code, shop, quantity) '
        'select k.line, k.line, %L, k.sale_id, k.code, k.shop, %L from (values '
        '(1, %L, %L, %L), (2, %L, %L, %L), (3, %L, %L, %L), (4, %L, null, %L)) as k (line, sale_id, code, shop)',
        :'stage', '', '1', '10', 'e', '1', 'x', 'f', '1', '12', 'g', 'one', '13', '1'
    ),
    'whatever it is'
);
select sqlkit.start_run('load', 'public.sale', 'update') as run_id
\gset
select is(
    sqlkit_test.shown(
        sqlkit.merge_text_batch(:run_id, null, null, :'stage', 'public.sale', 'update', p_limit => 9)
    ),
    '4 read, 1 inserted, 3 rejected',
    'what is sound is merged'
);
select results_eq(
    format(
        'select first_line, column_name::text, sqlstate from sqlkit.reject where run_id = %s order by first_line',
        :run_id
    ),
    $$values (2::bigint, 'sale_id', '22P02'), (3, 'shop', '22P02'), (4, 'product_id', '23502')$$,
    'what is not, is told'
);
select is(
    (
        select r.message
        from sqlkit.reject as r
        where r.run_id = :run_id and r.first_line = 4
    ),
    'no row in public.product for (code, shop)=(NULL, ''1'')',
    'of a missing key: which, and where'
);
select is(
    array(
        select code
        from public.product
        where code > 'c'
        order by code
    ),
    array['cc', 'e'], 'keys are made for what is merged'
);

select throws_ok(
    $$select sqlkit.add_lookup('public.sale', 'product_id', 'public.product', array['code', 'shop'])$$, 'SK208', null,
    'no stage'
);
create table public.pair (a integer, b integer, name text unique, primary key (a, b));
select throws_ok(
    $$select sqlkit.add_lookup('sqlkit_stage.sold', 'product_id', 'public.pair', array['name'], array['code'])$$,
    'SK204', null, 'an id of two columns'
);
create table public.nobody (id integer, name text unique);
select throws_ok(
    $$select sqlkit.add_lookup('sqlkit_stage.sold', 'product_id', 'public.nobody', array['name'], array['code'])$$,
    'SK202', null, 'no id'
);
select throws_ok(
    $$select sqlkit.add_lookup('sqlkit_stage.sold', 'product_id', 'public.product', array['code'])$$, 'SK203', null,
    'half a key'
);
select throws_ok(
    $$select sqlkit.add_lookup(
        'sqlkit_stage.sold', 'product_id', 'public.land', array['name'], array['code'], p_placeholder => 'x'
    )$$,
    '22P02', null, 'a placeholder that is no id'
);

select * from finish();
rollback;
