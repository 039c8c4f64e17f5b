begin;
select plan(9);

create table kind (name text primary key);
insert into kind values ('fruit'), ('100%');
create table "Odd ""100%"" table" (
    id integer primary key,
    "Kind %s" text references kind,
    price numeric,
    constraint "dear %I" check (price > 0.0 and "Kind %s" <> '100%')
);
select sqlkit.plan_screen('"Odd ""100%"" table"', '{id,"Kind %s",price}', '{}', 'update', '{id}') as plan \gset
select sqlkit.create_stage('"Odd ""100%"" table"') as stage \gset
select format($$insert into %s values (1, 'fruit', 1), (2, 'stone', 1), (3, 'fruit', 0)$$, :'stage') \gexec
select format($$insert into %s values (4, 'stone', 0), (5, null, null)$$, :'stage') \gexec
select sqlkit.screen_stage(:'plan', :'stage') as found \gset
select is(
    (select jsonb_agg(r.row -> 0) from jsonb_array_elements(:'found'::jsonb -> 'broken') as r (row)),
    '[2, 3, 4]',
    'the rows that break a constraint, by their numbers'
);
select is(:'found'::jsonb #>> '{broken,0,2}', '23503', 'what refers to nothing');
select is(:'found'::jsonb #>> '{broken,1,2}', '23514', 'what a check forbids');
select is(:'found'::jsonb #>> '{broken,2,2}', '23514', 'of two constraints one is told');
select is(:'found'::jsonb #>> '{broken,0,1}', 'Kind %s', 'the column at fault');
select results_eq(format('select id from %s', :'stage'), array[1, 5], 'they are gone from the stage');

select format($$insert into %s values (6, 'fruit', 1), (7, '100%%', 7)$$, :'stage') \gexec
select is(
    sqlkit.screen_stage(:'plan', :'stage', (:'found'::jsonb ->> 'last')::tid) #> '{broken,0,0}',
    '2',
    'only rows behind the place that was given are looked at, and counted'
);
select results_eq(format('select id from %s', :'stage'), array[1, 5, 6], 'so that the others stay');

create table free (id integer);
select is(
    sqlkit.screen_stage(sqlkit.plan_screen('free', '{id}', '{}', 'append'), sqlkit.create_stage('free')) ->> 'broken',
    '[]',
    'where there is no constraint none is broken'
);

select * from finish();
rollback;
