begin;
select plan(3);

create table price (id integer constraint price_pkey primary key, note text);
create index "Price Note" on price (note);
alter table price alter column note set storage external;
insert into price
select
    i,
    repeat('x', 2500)
from generate_series(1, 20) as i;

select results_eq(
    $$select total_bytes from sqlkit.storage where table_name = 'price'::regclass$$,
    $$values (pg_total_relation_size('price'::regclass))$$,
    'all of it'
);
select ok(
    (
        select
            s.heap_bytes = pg_relation_size('price'::regclass)
            and s.index_bytes = pg_relation_size('price_pkey'::regclass) + pg_relation_size('"Price Note"'::regclass)
            and s.toast_bytes > 50000
        from sqlkit.storage as s
        where s.table_name = 'price'::regclass
    ),
    'in parts'
);
select is(
    (
        select s.indexes -> 'Price Note' from sqlkit.storage as s
        where s.table_name = 'price'::regclass
    ),
    to_jsonb(pg_relation_size('"Price Note"'::regclass)),
    'and index by index'
);

select * from finish();
rollback;
