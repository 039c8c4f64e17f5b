-- Pages: what rows and keys would take, written anew, by statistics alone. That follows from how PostgreSQL lays rows
-- out: the alignment of each column after those before it, the bitmap of nulls, the fillfactor, the room that is left
-- at the end of a page because the next row does not fit there, and, in an index, the keys that repeat and are stored
-- once (deduplication).

create or replace function sqlkit._column_statistics(p_relation regclass)
returns table (
    attnum smallint,
    attlen smallint,
    alignment integer,
    may_be_short boolean,
    may_be_stored_outside boolean,
    null_frac double precision,
    avg_width integer,
    n_distinct double precision,
    common_shares double precision[],
    is_unknown boolean
)
language plpgsql
stable
rows 10
set search_path = pg_catalog, pg_temp
as $column_statistics$
declare
    v_relation name;
    v_table_oid oid;
    v_table name;
    v_schema name;
    v_key smallint[];
begin
    select c.relname, coalesce(i.indrelid, c.oid), t.relname, n.nspname, i.indkey::smallint[]
    into v_relation, v_table_oid, v_table, v_schema, v_key
    from pg_class as c
    left join pg_index as i on i.indexrelid = c.oid
    join pg_class as t on t.oid = coalesce(i.indrelid, c.oid)
    join pg_namespace as n on n.oid = t.relnamespace
    where c.oid = p_relation;
    -- The names are known by now: so pg_stats, which hides much behind few names, is read by index.
    return query
    with statistics as materialized (
        select s.tablename, s.attname, s.null_frac, s.avg_width, s.n_distinct, s.most_common_freqs
        from pg_stats as s
        where s.schemaname = v_schema and s.tablename = v_table and not s.inherited
        union all
        select s.tablename, s.attname, s.null_frac, s.avg_width, s.n_distinct, s.most_common_freqs
        from pg_stats as s
        where s.schemaname = v_schema and s.tablename = v_relation and v_relation <> v_table and 0 = any(v_key)
    )

    select
        x.attnum,
        x.attlen,
        case x.attalign when 'd' then 8 when 'i' then 4 when 's' then 2 else 1 end,
        x.attstorage <> 'p',
        x.attstorage in ('x', 'e') and not x.attisdropped,
        case when x.attisdropped then 1 else coalesce(s.null_frac, 0) end::double precision,
        s.avg_width,
        coalesce(s.n_distinct, -1)::double precision,
        s.most_common_freqs::double precision[],
        s.attname is null
    from pg_attribute as x
    -- An index takes the statistics of the table's column, those of an expression are its own.
    left join pg_attribute as c
        on c.attrelid = v_table_oid
        and c.attnum = coalesce(v_key[x.attnum - 1], x.attnum)
        and c.attnum > 0
    left join statistics as s
        on s.tablename = case when c.attnum is null then v_relation else v_table end
        and s.attname = coalesce(c.attname, x.attname)
    where x.attrelid = p_relation and x.attnum > 0
    order by x.attnum;
end;
$column_statistics$;

comment on function sqlkit._column_statistics(regclass) is
'The columns of a table or index with their layout and statistics, as far as the caller may see them.';


create or replace function sqlkit._packed_row(
    p_relation regclass,
    out data_bytes double precision,
    out null_share double precision,
    out is_even boolean,
    out unknown_columns integer
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $packed_row$
declare
    -- Where the next column may begin: at v_rest, plus any multiple of v_step. Starts at a multiple of 8.
    v_step integer := 8;
    v_rest integer := 0;
    v_after_step integer;
    v_after_rest integer;
    v_width double precision;
    v_align integer;
    v_common integer;
    v_padding double precision;
    v_varying double precision := 0;
    r_column record;
begin
    data_bytes := 0;
    null_share := 0;
    is_even := true;
    unknown_columns := 0;
    for r_column in
        select c.*
        from sqlkit._column_statistics(p_relation) as c
        order by c.attnum
    loop
        null_share := 1 - (1 - null_share) * (1 - r_column.null_frac);
        continue when r_column.null_frac = 1;
        -- A name takes 64 bytes in a table, and as many as it has in an index, which no statistics tell.
        if r_column.attlen = -2 or (r_column.attlen = -1 and r_column.is_unknown) then
            unknown_columns := unknown_columns + 1;
            continue;
        end if;
        v_width := case when r_column.attlen > 0 then r_column.attlen else r_column.avg_width end;
        -- Up to 126 bytes a value of variable length has a short header, which is not aligned; a pointer
        -- into TOAST neither.
        v_align := case
            when r_column.attlen = -1 and r_column.may_be_short and v_width <= 127 then 1
            else r_column.alignment
        end;
        v_common := least(v_align, v_step);
        v_padding := (v_align - v_common) / 2.0 + (v_common - v_rest % v_common) % v_common;
        data_bytes := data_bytes + (1 - r_column.null_frac) * (v_padding + v_width);
        v_after_step := greatest(v_align, v_step);
        v_after_rest := case when v_step >= v_align then (v_rest + v_padding::integer) % v_step else 0 end;
        if r_column.attlen > 0 then
            v_after_rest := (v_after_rest + r_column.attlen) % v_after_step;
        else
            v_after_step := 1;
            v_after_rest := 0;
            v_varying := v_varying + v_width * (1 - r_column.null_frac);
            is_even := false;
        end if;
        if r_column.null_frac > 0 then
            -- In some rows it is not there: what can be said is what holds with it and without it.
            is_even := false;
            v_after_step := least(v_step, v_after_step);
            while v_rest % v_after_step <> v_after_rest % v_after_step loop
                v_after_step := v_after_step / 2;
            end loop;
            v_after_rest := v_after_rest % v_after_step;
        end if;
        v_step := v_after_step;
        v_rest := v_after_rest;
    end loop;
    data_bytes := case
        when v_step > 1 then data_bytes + (8 - v_step) / 2.0 + (v_step - v_rest % v_step) % v_step
        -- Lengths are taken to lie within a fifth of their average.
        else (
            select avg(8 * ceil((data_bytes + 0.05 * k.step * v_varying) / 8))
            from generate_series(-4, 4) as k (step)
        )
    end;
end;
$packed_row$;

comment on function sqlkit._packed_row(regclass) is
'What the columns of a row of a table or an entry of an index take on average, by statistics: bytes with all
alignment up to a multiple of 8, the share of rows that hold a null, whether all rows are equally long, and of how
many columns of variable length nothing is known.';


create or replace function sqlkit._fillfactor(p_relation regclass)
returns integer
language sql
stable
begin atomic
select
    coalesce(
        (
            select o.option_value::integer
            from pg_options_to_table(c.reloptions) as o
            where o.option_name = 'fillfactor'
        ),
        case when c.relkind = 'i' then 90 else 100 end
    ) as fillfactor
from pg_class as c
where c.oid = p_relation;
end;

comment on function sqlkit._fillfactor(regclass) is 'How full the pages of a table or btree index are made, in percent.';


create or replace function sqlkit._heap_bytes(
    p_relation regclass,
    p_rows double precision,
    p_row_bytes double precision,
    p_is_even boolean
)
returns double precision
language sql
stable
begin atomic
select
    s.block_bytes * ceil(
        p_rows / case
            when p_is_even then greatest(1, floor(s.fitting))
            -- Rows of many lengths leave room for half a row, on average.
            else greatest(1, s.fitting - 0.5)
        end
    )::double precision
from (
    select
        current_setting('block_size')::integer as block_bytes,
        (
            current_setting('block_size')::integer * sqlkit._fillfactor(p_relation) / 100.0 - 24
        ) / (p_row_bytes + 4) as fitting
) as s;
end;

comment on function sqlkit._heap_bytes(regclass, double precision, double precision, boolean) is
'Bytes of a table''s pages, newly written, for so many rows of so many bytes with their headers.';


create or replace function sqlkit._deduplicates(p_index regclass)
returns boolean
language sql
stable
begin atomic
select
    not i.indisunique
    -- A column that is only included turns it off.
    and i.indnkeyatts = i.indnatts
    and not exists (
        select
        from pg_options_to_table(c.reloptions) as o
        where o.option_name = 'deduplicate_items' and not o.option_value::boolean
    )
    and not exists (
        select
        from unnest(i.indclass::oid[], i.indcollation::oid[]) as k (class_oid, collation_oid)
        join pg_opclass as o on o.oid = k.class_oid
        left join pg_amproc as p
            on p.amprocfamily = o.opcfamily and p.amprocnum = 4
            and p.amproclefttype = o.opcintype and p.amprocrighttype = o.opcintype
        left join pg_collation as l on l.oid = k.collation_oid
        where
            p.oid is null
            or (p.amproc::oid = 'btvarstrequalimage'::regproc::oid and not l.collisdeterministic)
    )
from pg_index as i
join pg_class as c on c.oid = i.indexrelid
where i.indexrelid = p_index;
end;

comment on function sqlkit._deduplicates(regclass) is
'Whether a btree index, newly built, stores a repeated key once with a list of places.';


create or replace function sqlkit._posting_bytes(p_key_bytes double precision, p_rows double precision)
returns double precision
language sql
immutable
return case
    when p_rows <= 1 or p_key_bytes > 700 then greatest(p_rows, 1) * (p_key_bytes + 4)
    else
        -- Lists are of 812 bytes at most. Where a key has few rows on average, some have one and need no list.
        ceil(p_rows / floor((812 - p_key_bytes) / 6)) * (p_key_bytes + 4)
        + 6 * (p_rows - exp(greatest(1 - p_rows, -50)) / 2)
        + 3.5 * (1 - exp(greatest(1 - p_rows, -50)) / 2)
end;

comment on function sqlkit._posting_bytes(double precision, double precision) is
'Bytes of a btree index for one key of so many bytes (with its header) that so many rows have, deduplicated.';


create or replace function sqlkit._repeated_keys(
    p_index regclass,
    p_rows double precision,
    out keys double precision,
    out is_guessed boolean,
    out common_shares double precision[]
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $repeated_keys$
declare
    v_columns integer := 0;
    v_product double precision := 1;
    v_most double precision := 1;
    v_known double precision;
    r_column record;
begin
    is_guessed := false;
    for r_column in
        select c.*
        from sqlkit._column_statistics(p_index) as c
    loop
        v_columns := v_columns + 1;
        v_known := greatest(
            1,
            case when r_column.n_distinct < 0 then -r_column.n_distinct * p_rows else r_column.n_distinct end
            + case when r_column.null_frac > 0 then 1 else 0 end
        );
        v_product := v_product * v_known;
        v_most := greatest(v_most, v_known);
        common_shares := r_column.common_shares || case when r_column.null_frac > 0 then r_column.null_frac end;
        is_guessed := is_guessed or r_column.is_unknown;
    end loop;
    if v_columns = 1 then
        keys := least(v_product, p_rows);
        return;
    end if;
    common_shares := null;
    -- CREATE STATISTICS (ndistinct) on the same columns knows; otherwise they are taken for independent.
    select max(d.value::double precision)
    into keys
    from pg_index as i
    join pg_statistic_ext as e on e.stxrelid = i.indrelid
    join pg_namespace as n on n.oid = e.stxnamespace
    join pg_stats_ext as s on s.statistics_schemaname = n.nspname and s.statistics_name = e.stxname
    cross join lateral json_each_text(s.n_distinct::text::json) as d (key, value)
    where
        i.indexrelid = p_index
        and not s.inherited
        and string_to_array(d.key, ', ')::smallint[] @> i.indkey::smallint[]
        and string_to_array(d.key, ', ')::smallint[] <@ i.indkey::smallint[];
    if keys is null then
        is_guessed := is_guessed or v_most < p_rows * 0.9;
        keys := greatest(v_most, v_product * (1 - exp(greatest(-p_rows / v_product, -50))));
    end if;
    keys := greatest(1, least(keys, p_rows));
end;
$repeated_keys$;

comment on function sqlkit._repeated_keys(regclass, double precision) is
'How many different keys an index of so many rows has, by statistics; whether that is a guess, as it is for several
columns without CREATE STATISTICS; and, for one column, the shares of rows that the most common keys have.';


create or replace function sqlkit._btree_bytes(
    p_index regclass,
    p_rows double precision,
    out bytes double precision,
    out unknown_columns integer,
    out is_guessed boolean
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $btree_bytes$
declare
    v_block double precision := current_setting('block_size')::integer;
    v_row record;
    v_repeated record;
    v_key_bytes double precision;
    v_entry_bytes double precision;
    v_content double precision;
    v_room double precision;
    v_item_bytes double precision;
    v_common_keys double precision;
    v_common_rows double precision;
    v_other_keys double precision;
    v_leaves double precision;
begin
    v_row := sqlkit._packed_row(p_index);
    unknown_columns := v_row.unknown_columns;
    is_guessed := false;
    -- 8 bytes of header, as many again where a null needs a bitmap, and 4 in the page's list of entries.
    v_key_bytes := 8 + 8 * v_row.null_share + v_row.data_bytes;
    v_entry_bytes := v_key_bytes + 4;
    v_content := p_rows * v_entry_bytes;
    v_item_bytes := v_entry_bytes;
    if sqlkit._deduplicates(p_index) and p_rows > 0 then
        v_repeated := sqlkit._repeated_keys(p_index, p_rows);
        is_guessed := v_repeated.is_guessed;
        select
            coalesce(count(*), 0),
            coalesce(sum(k.share), 0) * p_rows,
            coalesce(sum(sqlkit._posting_bytes(v_key_bytes, k.share * p_rows)), 0)
        into v_common_keys, v_common_rows, v_content
        from unnest(v_repeated.common_shares) as k (share)
        where k.share is not null;
        v_other_keys := greatest(v_repeated.keys - v_common_keys, 1);
        if p_rows > v_common_rows then
            v_content := v_content
                + v_other_keys * sqlkit._posting_bytes(v_key_bytes, (p_rows - v_common_rows) / v_other_keys);
        end if;
        v_item_bytes := least(812, v_content / v_repeated.keys);
        v_row.is_even := v_row.is_even and v_repeated.keys >= p_rows * 0.999;
    end if;
    -- A leaf is full as soon as less than its share is free: of 8192 bytes 24 are header, 16 links, and 8 go to
    -- the entry that stands for the next page.
    v_room := v_block * sqlkit._fillfactor(p_index) / 100 - 48;
    v_leaves := ceil(
        case
            when v_row.is_even then p_rows / greatest(1, floor(v_room / v_entry_bytes))
            -- Entries of many lengths leave room for half of one, on average.
            else v_content / greatest(v_item_bytes, v_room - v_item_bytes / 2)
        end
    );
    -- Above them pages with one entry a page, filled to 70 percent; and the page that says where the root is.
    bytes := v_block * (
        1 + v_leaves + case
            when v_leaves > 1 then ceil(v_leaves / greatest(1, 0.7 * (v_block - 40) / v_entry_bytes - 1))
            else 0
        end
    );
end;
$btree_bytes$;

comment on function sqlkit._btree_bytes(regclass, double precision) is
'Bytes of a btree index, newly built, over so many rows, by statistics; of how many columns of variable length
nothing is known; and whether the number of keys that repeat was guessed.';


create or replace function sqlkit._toast_bytes(
    p_table regclass,
    p_chunks double precision,
    p_rows double precision,
    out bytes double precision
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $toast_bytes$
declare
    v_block double precision := current_setting('block_size')::integer;
    -- As large as four of them fill a page.
    v_chunk double precision := floor((v_block - 24 - 16) / 4 / 8) * 8 - 36;
    v_values double precision;
    v_chunks_per_value double precision;
    v_value_bytes double precision;
begin
    if p_chunks = 0 then
        bytes := 0;
        return;
    end if;
    select sum(p_rows * (1 - c.null_frac))
    into v_values
    from sqlkit._column_statistics(p_table) as c
    where
        c.may_be_stored_outside
        -- A pointer takes 18 bytes: where values are shorter on average, few of them can be pointers.
        and coalesce(c.avg_width, 18) >= 17;
    v_chunks_per_value := greatest(1, p_chunks / greatest(1, least(v_values, p_chunks)));
    -- Values go out of line from about 1,900 bytes on, one chunk; of several the last is half full on average.
    v_value_bytes := case
        when v_chunks_per_value < 2 then v_chunk * (0.97 + 0.53 * (v_chunks_per_value - 1))
        else v_chunk * (v_chunks_per_value - 0.5)
    end;
    bytes := v_block * ceil(
        p_chunks * (40 + v_value_bytes / v_chunks_per_value) / (v_block - 24)
    );
end;
$toast_bytes$;

comment on function sqlkit._toast_bytes(regclass, double precision, double precision) is
'Bytes of a table''s TOAST, newly written, for so many chunks of values of so many rows. Nothing says how long the
values are but how many chunks they have.';
