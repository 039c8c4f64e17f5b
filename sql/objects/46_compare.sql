-- Whether two tables hold the same, and copies of tables to try something on.

create or replace function sqlkit._compared_columns(p_left regclass, p_right regclass, p_columns name[])
returns name[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $compared_columns$
declare
    v_columns name[] := p_columns;
begin
    if v_columns is null then
        select array_agg(r.attname order by r.attnum)
        into v_columns
        from pg_attribute as l
        join pg_attribute as r on r.attname = l.attname
        where
            l.attrelid = p_left and l.attnum > 0 and not l.attisdropped
            and r.attrelid = p_right and r.attnum > 0 and not r.attisdropped;
    end if;
    if coalesce(cardinality(v_columns), 0) = 0 then
        raise exception using
            errcode = 'SK204',
            message = 'the tables have no column in common',
            detail = format('Tables: %s and %s.', p_left, p_right),
            hint = 'Columns are compared by their names.';
    end if;
    perform sqlkit._refuse_columns(p_left, v_columns);
    perform sqlkit._refuse_columns(p_right, v_columns);
    return v_columns;
end;
$compared_columns$;

comment on function sqlkit._compared_columns(regclass, regclass, name[]) is
'The columns by which two tables are compared: those named, else those that both have. Raises: SK204 where one is
not there, or none is.';


create or replace function sqlkit._hashed_rows(p_table regclass, p_key name[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $hashed_rows$
    -- OFFSET 0: the hash of the key is computed once a row, and not once for each column.
    select format(
        '(select %s as sqlkit_hash, t.* from %s as t offset 0) as t',
        (
            select string_agg(
                format('hashtextextended(coalesce(t.%I::text, %L) collate "C", ', k.name, 'N'), '' order by k.position
            ) || '0' || repeat(')', count(*)::integer)
            from unnest(p_key) with ordinality as k (name, position)
        ),
        sqlkit._table_name(p_table)
    )
$hashed_rows$;

comment on function sqlkit._hashed_rows(regclass, name[]) is
'What to select from: the rows of a table with sqlkit_hash, a hash of their key.';


create or replace function sqlkit.compare_tables(
    p_left regclass,
    p_right regclass,
    p_key name[] default null,
    p_columns name[] default null,
    p_limit integer default 20,
    p_buckets integer default 4096
)
returns table (
    rows_left bigint,
    rows_right bigint,
    only_left bigint,
    only_right bigint,
    different bigint,
    buckets_different integer,
    columns_different jsonb,
    examples jsonb
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set jit = off
as $compare_tables$
declare
    v_columns name[] := sqlkit._compared_columns(p_left, p_right, p_columns);
    v_key name[] := p_key;
    v_values name[];
    v_sums text;
    v_buckets bigint[];
    v_rows text;
begin
    if v_key is null then
        select u.columns
        into v_key
        from unnest(array[p_left, p_right]) with ordinality as t (relation, position)
        cross join lateral sqlkit._unique_keys(t.relation) as u
        where u.is_primary and u.columns <@ v_columns
        order by t.position
        limit 1;
    else
        perform sqlkit._refuse_columns(p_left, v_key);
        perform sqlkit._refuse_columns(p_right, v_key);
    end if;
    -- Without a key whole rows are counted against each other.
    v_key := coalesce(v_key, v_columns);
    v_values := array(
        select c.name
        from unnest(v_columns) with ordinality as c (name, n)
        where c.name <> all (v_key)
        order by c.n
    );

    -- The hash of a value begins with that of its row's key: values that were exchanged, or the same in two rows,
    -- do not cancel each other out.
    select 'count(*) as n, array[bit_xor(t.sqlkit_hash)' || coalesce(string_agg(format(
        ', bit_xor(coalesce(hashtextextended(t.%I::text collate "C", t.sqlkit_hash), t.sqlkit_hash))', c.name
    ), '' order by c.n), '') || '] as sums'
    into v_sums
    from unnest(v_values) with ordinality as c (name, n);
    execute format(
        'select coalesce(sum(l.n), 0), coalesce(sum(r.n), 0), '
        'array_agg(bucket) filter (where l.n is distinct from r.n or l.sums is distinct from r.sums) '
        'from (select t.sqlkit_hash %% %4$s as bucket, %1$s from %2$s group by 1) as l '
        'full join (select t.sqlkit_hash %% %4$s as bucket, %1$s from %3$s group by 1) as r using (bucket)',
        v_sums,
        sqlkit._hashed_rows(p_left, v_key),
        sqlkit._hashed_rows(p_right, v_key),
        greatest(1, p_buckets)
    )
    into rows_left, rows_right, v_buckets;
    only_left := 0;
    only_right := 0;
    different := 0;
    buckets_different := coalesce(cardinality(v_buckets), 0);
    columns_different := '{}';
    examples := '[]';
    if buckets_different > 0 then
        -- Arrays of text, so that nulls equal each other, and types that have no order can be joined. Rows of the same
        -- key are numbered.
        v_rows :=
            'select s.k || row_number() over (partition by s.k order by s.v)::text as k, s.v '
            'from (select array[%1$s]::text[] as k, array[%2$s]::text[] as v from %3$s '
            'where t.sqlkit_hash %% %4$s = any ($1)) as s';
        v_rows := format(
            'select k, l.v as l, r.v as r from (%s) as l full join (%s) as r using (k) where l.v is distinct from r.v',
            format(
                v_rows, sqlkit._column_list(v_key, 't.%I::text collate "C"'),
                sqlkit._column_list(v_values, 't.%I::text collate "C"'),
                sqlkit._hashed_rows(p_left, v_key), greatest(1, p_buckets)
            ),
            format(
                v_rows, sqlkit._column_list(v_key, 't.%I::text collate "C"'),
                sqlkit._column_list(v_values, 't.%I::text collate "C"'),
                sqlkit._hashed_rows(p_right, v_key), greatest(1, p_buckets)
            )
        );
        execute format(
            'with j as materialized (%s) select '
            '(select count(*) from j where j.r is null), '
            '(select count(*) from j where j.l is null), '
            '(select count(*) from j where j.l is not null and j.r is not null), '
            'coalesce((select jsonb_object_agg(d.name, d.n) from ('
            'select c.name, count(*) as n from j cross join lateral unnest($2, j.l, j.r) as c (name, l, r) '
            'where j.l is not null and j.r is not null and c.l is distinct from c.r group by c.name) as d), ''{}''), '
            'coalesce((select jsonb_agg(sqlkit._shown_difference($3, $2, e.k, e.l, e.r) order by e.k) '
            'from (select * from j order by j.k limit $4) as e), ''[]'')',
            v_rows
        )
        into only_left, only_right, different, columns_different, examples
        using v_buckets, v_values::text[], v_key::text[], greatest(0, p_limit);
    end if;
    return next;
end;
$compare_tables$;

comment on function sqlkit.compare_tables(regclass, regclass, name[], name[], integer, integer) is
'Whether two tables, views or foreign tables hold the same rows. Rows are counted and checksums of the key and of each
column added up in buckets of keys; only the rows of buckets that differ are held against each other. By the primary
key of either, or p_key; without one whole rows are counted against each other. Compared is what both have of
columns, or p_columns, as text: 1.0 and 1.00 differ. Tells rows on each side, those that only one has, those that
differ, in how many rows each column does, and the first p_limit differences by key: which side has the row, its key,
and the values of the columns that differ. Disk, not memory, grows with the differences. Changes nothing.
Raises: SK204 for a column that one of them does not have, or where they have none in common.';


create or replace function sqlkit._shown_difference(
    p_key_names text[], p_names text[], p_key text[], p_left text[], p_right text[]
)
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $shown_difference$
    select (jsonb_build_object(
        'where', case when p_right is null then 'left' when p_left is null then 'right' else 'both' end,
        'key', (
            select jsonb_object_agg(k.name, k.value)
            from unnest(p_key_names, p_key[:cardinality(p_key_names)]) as k (name, value)
        )
    )) || coalesce((
        select jsonb_build_object(
            'left', jsonb_object_agg(c.name, c.l), 'right', jsonb_object_agg(c.name, c.r)
        )
        from unnest(p_names, p_left, p_right) as c (name, l, r)
        where c.l is distinct from c.r and p_left is not null and p_right is not null
        having count(*) > 0
    ), '{}')
$shown_difference$;

comment on function sqlkit._shown_difference(text[], text[], text[], text[], text[]) is
'A difference as compare_tables() tells it.';


create or replace function sqlkit.copy_table(p_table regclass, p_run_id bigint, p_with_rows boolean default false)
returns regclass
language plpgsql
set search_path = pg_catalog, pg_temp
as $copy_table$
declare
    v_stage_id bigint := nextval(pg_get_serial_sequence('sqlkit.stage', 'stage_id'));
    v_name name := 'copy_' || v_stage_id;
    v_copy text := format('sqlkit_stage.%I', v_name);
    v_columns text;
    r_column record;
begin
    perform sqlkit._check_target(p_table);
    insert into sqlkit.stage (stage_id, name, target, run_id)
    overriding system value
    values (v_stage_id, v_name, sqlkit._table_name(p_table), p_run_id);
    execute format(
        'create unlogged table %s (like %s including all excluding comments excluding statistics)',
        v_copy,
        sqlkit._table_name(p_table)
    );
    -- The sequences of the table's own columns are not to be moved by what is tried on the copy.
    for r_column in
        select a.attname as name
        from pg_attribute as a
        join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where
            a.attrelid = v_copy::regclass and a.attgenerated = ''
            and pg_get_expr(d.adbin, d.adrelid) ~ '^nextval\('
    loop
        execute format(
            'alter table %1$s alter column %2$I drop default, alter column %2$I set not null', v_copy, r_column.name
        );
        execute format('alter table %s alter column %I add generated by default as identity', v_copy, r_column.name);
    end loop;
    if p_with_rows then
        select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
        into v_columns
        from pg_attribute as a
        where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped and a.attgenerated = '';
        execute format(
            'insert into %s (%s) overriding system value select %2$s from %s',
            v_copy,
            v_columns,
            sqlkit._table_name(p_table)
        );
        for r_column in
            select a.attname as name
            from pg_attribute as a
            where a.attrelid = v_copy::regclass and a.attidentity <> ''
        loop
            execute format(
                'select setval(pg_get_serial_sequence(%1$L, %2$L), max(%2$I)) from %1$s having max(%2$I) > 0',
                v_copy,
                r_column.name
            );
        end loop;
    end if;
    return v_copy::regclass;
end;
$copy_table$;

comment on function sqlkit.copy_table(regclass, bigint, boolean) is
'Makes an unlogged table in sqlkit_stage with the columns, defaults, checks, keys and indexes of a table, and its rows if
p_with_rows: to try something on, and to be dropped by drop_stage(). It belongs to a run: when that is over and its program
gone, repair_runs() drops it. Foreign keys and triggers are not copied; sequences are its own.
Writes: sqlkit.stage. Raises: SK201 if it is no table.';
