begin;
select plan(16);

create domain code as text check (value <> '');
create type colour as enum ('red', 'green');
create table item (
    id integer generated always as identity primary key,
    gone integer,
    code code not null,
    price numeric(10, 2) default 1,
    colours colour[],
    doubled numeric generated always as (price * 2.0) stored,
    name varchar(20) collate "C" check (name <> '')
);
alter table item drop column gone;

select sqlkit.create_stage('item') as stage \gset
select results_eq(
    format(
        'select attname, format_type(atttypid, atttypmod), attnotnull from pg_catalog.pg_attribute '
        'where attrelid = %L::regclass and attnum > 0 order by attnum',
        :'stage'
    ),
    $$values
    ('id'::name, 'integer', false),
    ('code', 'code', false),
    ('price', 'numeric(10,2)', false),
    ('colours', 'colour[]', false),
    ('name', 'character varying(20)', false)$$,
    'all columns that can be loaded, with their types and without constraints'
);
select is(
    (
        select relpersistence from pg_catalog.pg_class
        where oid = :'stage'::regclass
    ), 'u', 'unlogged'
);
select is(
    (
        select relnamespace from pg_catalog.pg_class
        where oid = :'stage'::regclass
    ),
    'sqlkit_stage'::regnamespace::oid,
    'in the schema of the stages'
);
select is(
    (
        select l.collname
        from pg_catalog.pg_attribute as a
        join pg_collation as l on l.oid = a.attcollation
        where a.attrelid = :'stage'::regclass and a.attname = 'name'
    ),
    'C',
    'collations are those of the target'
);
select results_eq(
    'select target, run_id from sqlkit.stage', $$values ('public.item', null::bigint)$$, 'the list of stages has it'
);

select sqlkit.create_stage('item', '{name,id}', 'two columns') as stage \gset
select is(:'stage'::text, 'sqlkit_stage."two columns"', 'a name of one''s own');
select columns_are('sqlkit_stage', 'two columns', '{name,id}'::name[], 'the columns named');
select results_eq(
    $$select attname from pg_catalog.pg_attribute
    where attrelid = 'sqlkit_stage."two columns"'::regclass and attnum > 0 order by attnum$$,
    $$values ('name'::name), ('id')$$,
    'in their order'
);

select sqlkit.create_stage('item', '{id,remark,name,price}', 'with_more', '{remark,price}') as stage \gset
select results_eq(
    $$select attname, format_type(atttypid, atttypmod) from pg_catalog.pg_attribute
    where attrelid = 'sqlkit_stage.with_more'::regclass and attnum > 0 order by attnum$$,
    $$values ('id'::name, 'integer'), ('remark', 'text'), ('name', 'character varying(20)'), ('price', 'text')$$,
    'what is left out is there as text'
);
select sqlkit.create_stage('item', p_name => 'with_less', p_left_out => '{code}') as stage \gset
select hasnt_column('sqlkit_stage', 'with_less', 'code', 'a column of the target that is left out');

select throws_ok(
    $$select sqlkit.create_stage('item', p_name => 'with_less')$$,
    '23505', 'there is a stage with_less already', 'a name that is taken'
);
create table sqlkit_stage.of_somebody (id integer);
select throws_ok(
    $$select sqlkit.create_stage('item', p_name => 'of_somebody')$$, '42P07', null, 'even by what is no stage'
);
select throws_ok($$select sqlkit.create_stage('item', '{id,colour}')$$, 'SK204', null, 'an unknown column');
select throws_ok($$select sqlkit.create_stage('item', '{doubled}')$$, 'SK205', null, 'a generated column');
select throws_ok($$select sqlkit.create_stage('pg_catalog.pg_settings')$$, 'SK201', null, 'no table');
select is((select count(*) from sqlkit.stage), 4::bigint, 'what failed is not listed');

select * from finish();
rollback;
