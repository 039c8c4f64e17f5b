begin;
select plan(4);

select sqlkit_test.create_schema('Odd "schema"');
create table "Odd ""schema""".טבלה (
    "Key's" integer primary key, "50%" varchar(5) not null, price numeric check (price > 0.0)
);
select sqlkit.plan_screen(
    '"Odd ""schema"""."טבלה"', array['Key''s', '50%', 'price'], array['re"st'], 'update'
) as plan \gset

select results_eq(
    pg_catalog.format(
        $$select c.value ->> 'name', (c.value ->> 'may_be_null')::boolean
        from jsonb_array_elements(%L::jsonb -> 'columns') with ordinality as c order by c.ordinality$$,
        :'plan'
    ),
    $$values ('Key''s', false), ('50%', false), ('price', true)$$,
    'its columns in their order'
);
select sqlkit.begin_screen(:'plan');
insert into pg_temp.sqlkit_text (sqlkit_first_line, sqlkit_last_line, sqlkit_raw, "Key's", "50%", price)
values (2, 2, 'sound', '1', 'a', '1'), (3, 4, 'bad', 'x', 'a', '1'), (5, 5, 'long', '2', 'too long', null);
select results_eq(
    pg_catalog.format(
        $$select (r.value ->> 0)::integer, (r.value ->> 1)::integer, r.value ->> 2, r.value ->> 3, r.value ->> 4
        from jsonb_array_elements(sqlkit.screen_text(%L)) with ordinality as r order by r.ordinality$$,
        :'plan'
    ),
    $$values (3, 4, 'bad', 'Key''s', '22P02'), (5, 5, 'long', '50%', '22001')$$,
    'values that are none of their columns'
);
insert into pg_temp.sqlkit_typed ("Key's", "50%", price)
values (1, 'a', 1), (2, 'b', -1);
select results_eq(
    pg_catalog.format(
        $$select (r.value ->> 0)::integer, r.value ->> 1, r.value ->> 2
        from jsonb_array_elements(sqlkit.screen_rows(%L)) as r$$,
        :'plan'
    ),
    $$values (2, 'price', '23514')$$,
    'rows that break a constraint'
);
create view a_view as
select 1 as id;
select throws_ok($$select sqlkit.plan_screen('a_view', '{id}', '{}', 'update')$$, 'SK201', null, 'no table');

select * from finish();
rollback;
