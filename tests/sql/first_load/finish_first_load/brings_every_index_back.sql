-- The catalog after a first load is that of before, but for object ids and file nodes.
begin;
select plan(6);

create function pg_temp.snapshot(p_table regclass)
returns table (line text)
language sql
begin atomic
    select
        format(
            'index %s: %s valid=%s primary=%s unique=%s immediate=%s clustered=%s identity=%s tablespace=%s options=%s '
            'comment=%s',
            c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisprimary, i.indisunique, i.indimmediate,
            i.indisclustered, i.indisreplident, c.reltablespace, c.reloptions, obj_description(c.oid, 'pg_class')
        )
    from pg_catalog.pg_index as i
    join pg_catalog.pg_class as c on c.oid = i.indexrelid
    where i.indrelid = p_table
    union all
    select
        format(
            'constraint %s: %s validated=%s deferrable=%s deferred=%s local=%s inherited=%s noinherit=%s comment=%s',
            o.conname, pg_get_constraintdef(o.oid), o.convalidated, o.condeferrable, o.condeferred, o.conislocal,
            o.coninhcount, o.connoinherit, obj_description(o.oid, 'pg_constraint')
        )
    from pg_catalog.pg_constraint as o
    where o.conrelid = p_table
    union all
    select
        format(
            'column %s: %s not null=%s default=%s statistics=%s storage=%s',
            a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
            a.attstattarget, a.attstorage
        )
    from pg_catalog.pg_attribute as a
    left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = p_table and a.attnum > 0
    union all
    select format('table: identity=%s options=%s acl=%s', c.relreplident, c.reloptions, c.relacl)
    from pg_catalog.pg_class as c
    where c.oid = p_table;
end;

create function pg_temp.check_first_load(p_table regclass, p_rows text)
returns text
language plpgsql
as $check_first_load$
declare
    v_before text[] := array(select s.line from pg_temp.snapshot(p_table) as s order by s.line);
    v_after text[];
    v_rows bigint;
    v_indexes jsonb := sqlkit.begin_first_load(p_table);
begin
    if v_indexes is null then
        return is(sqlkit._first_load_obstacle(p_table), null, p_table || ' can be loaded so');
    end if;
    if exists (select from pg_catalog.pg_index as i where i.indrelid = p_table) then
        return fail(p_table || ' still has an index');
    end if;
    execute format('insert into %s %s', p_table, p_rows);
    get diagnostics v_rows = row_count;
    perform sqlkit.finish_first_load(p_table, v_indexes, v_rows, 'append');
    v_after := array(select s.line from pg_temp.snapshot(p_table) as s order by s.line);
    return is(v_after, v_before, p_table || ' is what it was');
end;
$check_first_load$;

create table plain (id bigint primary key, name text);
select pg_temp.check_first_load('plain', $$values (1, 'x')$$);

create table busy (
    id integer not null,
    code text collate "C",
    price numeric(10, 2) check (price >= 0.0),
    place point,
    words tsvector,
    seen timestamptz default now(),
    constraint "the Key" primary key (id, code) include (seen) with (fillfactor = 70) deferrable initially deferred,
    constraint busy_code_price_key unique (code, price) deferrable
);
comment on constraint "the Key" on busy is 'it''s the key';
comment on index "the Key" is 'and its index';
create unique index busy_lower_idx on busy (lower(code) desc nulls last) where price > 0.0;
comment on index busy_lower_idx is 'partial';
create index busy_place_idx on busy using gist (place) with (fillfactor = 80);
create index busy_words_idx on busy using gin (words) with (fastupdate = off);
create index busy_seen_idx on busy using brin (seen) with (pages_per_range = 16);
create index busy_hash_idx on busy using hash (code);
create index busy_pattern_idx on busy (code text_pattern_ops, (price * 2.0)) include (place);
create unique index busy_identity_idx on busy (id);
alter table busy cluster on busy_pattern_idx;
alter table busy replica identity using index busy_identity_idx;
alter table busy alter column code set statistics 300;
grant select on busy to public;
select pg_temp.check_first_load(
    'busy', $$values (1, 'A', 1.5, '(1,2)'::point, 'a b'::tsvector, '2024-01-01'::timestamptz)$$
);

-- NOT NULL that came with the primary key stays with the column, whatever the version makes of it.
create table only_key (a integer, b integer, c integer, primary key (b, a));
select pg_temp.check_first_load('only_key', 'values (1, 2, null)');

select sqlkit_test.create_schema('Odd "schema"');
create table "Odd ""schema""".טבלה (
    "Key col" integer constraint עברית primary key, "sel""ect" text constraint "U" unique
);
create index "with space" on "Odd ""schema""".טבלה ("sel""ect" desc);
comment on index "Odd ""schema"""."with space" is 'quo''te';
select pg_temp.check_first_load('"Odd ""schema"""."טבלה"', $$values (1, 'x')$$);

create table clustered_key (id integer primary key, name text unique);
alter table clustered_key cluster on clustered_key_pkey;
alter table clustered_key replica identity full;
select pg_temp.check_first_load('clustered_key', $$values (1, 'x')$$);

create table bare (id integer);
select pg_temp.check_first_load('bare', 'values (1)');

select * from finish();
rollback;
