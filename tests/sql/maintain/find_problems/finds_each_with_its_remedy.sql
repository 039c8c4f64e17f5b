-- Every kind of finding that a transaction can bring about, in a schema whose name needs quotes.
begin;
select plan(17);

select sqlkit_test.create_schema('My "shop"');
create table "My ""shop""".store (id integer primary key);
create table "My ""shop""".price (
    id integer primary key,
    "Store" integer references "My ""shop""".store,
    small_id smallint,
    amount numeric
) with (autovacuum_enabled = off);
create index same_one on "My ""shop""".price (amount);
create index same_two on "My ""shop""".price (amount);
create index other_order on "My ""shop""".price (amount desc);
create index only_some on "My ""shop""".price (amount) where amount > 0;
create sequence "My ""shop""".many;
create sequence "My ""shop""".few maxvalue 100;
create sequence "My ""shop""".small_ids;
alter sequence "My ""shop""".small_ids owned by "My ""shop""".price.small_id;
select setval('"My ""shop""".few', 80);
select setval('"My ""shop""".small_ids', 32000);
insert into "My ""shop""".price (id, amount) select
    k,
    1000000 - k
from generate_series(1, 20000) as k;

create view pg_temp.found as
select
    p.problem,
    p.weight,
    replace(p.relation, '"My ""shop""".', '') as relation,
    replace(p.statement, '"My ""shop""".', '') as statement
from sqlkit.find_problems(8192) as p
where p.relation like '"My ""shop""%';

select results_eq(
    $$select relation, statement from found where problem = 'never vacuumed or analyzed'$$,
    $$values ('price', 'vacuum (analyze) price')$$,
    'a filled table that nobody has looked at; an empty one is none'
);
analyze "My ""shop""".price;
select is_empty($$select from found where problem = 'never vacuumed or analyzed'$$, 'somebody has');
select results_eq(
    $$select relation, statement from found where problem = 'duplicate index'$$,
    $$values ('same_two', 'drop index concurrently same_two')$$,
    'of two equal indexes the younger goes; another order or predicate makes another index'
);
select results_eq(
    $$select relation, statement from found where problem = 'foreign key without index'$$,
    $$values ('price', 'create index concurrently on price ("Store")')$$,
    'a foreign key without index'
);
create index price_brin on "My ""shop""".price using brin ("Store");
select isnt_empty(
    $$select from found where problem = 'foreign key without index'$$, 'one that only tells blocks apart will not do'
);
create index on "My ""shop""".price ("Store", amount);
select is_empty(
    $$select from found where problem = 'foreign key without index'$$, 'any index that begins with it will do'
);
select results_eq(
    $$select relation, statement from found where problem = 'autovacuum is off'$$,
    $$values ('price', 'alter table price reset (autovacuum_enabled)')$$,
    'autovacuum is off'
);
select results_eq(
    $$select relation, statement from found where problem = 'sequence near its end' order by relation$$,
    $$values
    ('few', 'alter sequence few as bigint no maxvalue'),
    ('small_ids', 'alter table price alter column small_id type bigint; alter sequence small_ids as bigint no maxvalue')
    $$,
    'a sequence that ends, and one whose column does'
);
select ok(
    (
        select f.weight from found as f
        where f.relation = 'small_ids'
    ) >= 95, 'the nearer the end, the heavier'
);
select ok(
    (
        select array_agg(f.relation) @> '{only_some,other_order,same_one}'
        from found as f
        where f.problem = 'unused index'
    ),
    'unused indexes'
);
select is_empty(
    $$select from found where problem = 'unused index' and relation like '%pkey'$$, 'a primary key has its use'
);
delete from "My ""shop""".price
where id > 2000;
analyze "My ""shop""".price;
select pg_stat_clear_snapshot();
select results_eq(
    $$select relation, statement from found where problem = 'table bloat'$$,
    $$values ('price', 'vacuum (full, analyze) price')$$,
    'a table that is mostly empty'
);
select ok(
    'reindex index concurrently price_pkey' in (
        select f.statement from found as f
        where f.problem = 'index bloat'
    ),
    'and its indexes'
);
select ok(
    (
        select bool_and(w.weight >= w.next_weight)
        from (
            select
                p.weight,
                lead(p.weight) over () as next_weight
            from sqlkit.find_problems(8192) as p
        ) as w
    ),
    'the heaviest first'
);
select ok(
    (select bool_and(p.detail <> '' and p.statement <> '') from sqlkit.find_problems(8192) as p),
    'each says what it is and what mends it'
);
create index "Left_ccnew" on "My ""shop""".price (small_id);
select sqlkit_test.as_admin(
    $$update pg_index set indisvalid = false
    where indexrelid in ('"My ""shop""".same_one'::regclass, '"My ""shop"""."Left_ccnew"'::regclass)$$
);
select results_eq(
    $$select weight, relation, statement from found where problem = 'invalid index' order by relation$$,
    $$values
    (90, '"Left_ccnew"', 'drop index concurrently "Left_ccnew"'),
    (90, 'same_one', 'reindex index concurrently same_one')$$,
    'what an interrupted statement left is built or dropped'
);
select is_empty(
    $$select from found where relation in ('many', 'store', 'store_pkey')$$, 'what is well is not listed'
);

select * from finish();
rollback;
