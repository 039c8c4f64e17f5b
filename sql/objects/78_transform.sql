-- Raw to core: rows land as they came, in a table that tells which of them have changed; a query makes rows of them,
-- and these are merged into their target. How far that has come is committed together with the rows.

create or replace function sqlkit._note_change()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $note_change$
begin
    new.changed_in := pg_current_xact_id();
    if tg_nargs > 0 then
        new.updated_at := clock_timestamp();
    end if;
    return new;
end;
$note_change$;

comment on function sqlkit._note_change() is
'The trigger of follow_changes(): notes in which transaction a row was changed, and when, if the table keeps that.';


create or replace function sqlkit.follow_changes(p_table regclass)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $follow_changes$
declare
    v_table text := sqlkit._table_name(p_table);
    v_has_time boolean;
begin
    perform sqlkit._check_target(p_table);
    select exists (
        select 1
        from pg_attribute as a
        where a.attrelid = p_table and a.attname = 'updated_at' and a.atttypid = 'timestamptz'::regtype
    )
    into v_has_time;
    if not sqlkit._is_followed(p_table) then
        execute format(
            'alter table %s add column changed_in xid8 not null default pg_catalog.pg_current_xact_id()', v_table
        );
        execute format('create index on %s (changed_in)', v_table);
    end if;
    execute format(
        'create or replace trigger sqlkit_follow_changes before update on %s for each row '
        'when (old.* is distinct from new.*) execute function sqlkit._note_change(%s)',
        v_table,
        case when v_has_time then quote_literal('updated_at') end
    );
end;
$follow_changes$;

comment on function sqlkit.follow_changes(regclass) is
'Has a table keep in which transaction each of its rows was last changed (column changed_in, xid8, with an index), by
whomever, so that apply_transform() finds them. A column updated_at of type timestamptz is kept too, where there is one.
All rows that are there count as changed.
Writes: the table, which is rewritten. Locks: ACCESS EXCLUSIVE on it. Raises: SK201 if it is not a table.';


create or replace function sqlkit._is_followed(p_table regclass)
returns boolean
language sql
stable
begin atomic
select exists(
    select 1 as found
    from pg_attribute as a
    where
        a.attrelid = p_table
        and a.attname = 'changed_in'
        and a.atttypid = 'xid8'::regtype
        and not a.attisdropped
);
end;

comment on function sqlkit._is_followed(regclass) is
'Whether a table keeps in which transaction its rows were changed: see follow_changes().';


create or replace function sqlkit.create_raw_table(p_name text)
returns regclass
language plpgsql
set search_path = pg_catalog, pg_temp
as $create_raw_table$
declare
    v_parts text[] := parse_ident(p_name);
    v_table text;
begin
    if cardinality(v_parts) <> 2 then
        raise exception using
            errcode = 'SK201',
            message = 'a raw table needs a schema and a name',
            detail = format('Name: %s.', p_name),
            hint = 'Write schema.table.';
    end if;
    v_table := format('%I.%I', v_parts[1], v_parts[2]);
    execute format(
        'create table %s ('
        'raw_data jsonb not null, '
        'source_file text default nullif(pg_catalog.current_setting(''sqlkit.source_file'', true), ''''), '
        'run_id bigint default nullif(pg_catalog.current_setting(''sqlkit.run_id'', true), '''')::bigint, '
        'loaded_at timestamptz not null default pg_catalog.now(), '
        'updated_at timestamptz not null default pg_catalog.now())',
        v_table
    );
    perform sqlkit.follow_changes(v_table::regclass);
    return v_table::regclass;
end;
$create_raw_table$;

comment on function sqlkit.create_raw_table(text) is
'Makes a table that rows land in as they came: raw_data (jsonb), source_file, run_id, loaded_at, updated_at, and what
follow_changes() adds. source_file and run_id are filled by the settings sqlkit.source_file and sqlkit.run_id.
Raises: SK201 for a name without schema, 3F000 if there is no such schema, 42P07 if the table is there.';


create or replace function sqlkit._collect_columns(
    p_stage regclass,
    p_into name,
    p_names text[],
    p_columns name[],
    p_type regtype
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $collect_columns$
begin
    execute format(
        'alter table %s add column %I %s '
        'generated always as (pg_catalog.jsonb_object(array[%s]::text[])%s) stored',
        sqlkit._table_name(p_stage),
        p_into,
        p_type,
        (
            select string_agg(format('%L, %I', n.name, n.staged), ', ' order by n.position)
            from unnest(p_names, p_columns) with ordinality as n (name, staged, position)
        ),
        case p_type when 'text'::regtype then '::text' end
    );
end;
$collect_columns$;

comment on function sqlkit._collect_columns(regclass, name, text[], name[], regtype) is
'Has a stage put columns of text together as one object, in a column of its own, while COPY fills it: the names of the
source and the columns that hold their values, in the same order. Locks: ACCESS EXCLUSIVE on the stage.';


create or replace function sqlkit._changed_rows(
    p_source regclass, p_seen pg_snapshot, p_now pg_snapshot
)
returns text
language sql
stable
return format(
    -- The first condition is for the index.
    'select * from %s as r where %s',
    sqlkit._table_name(p_source),
    case
        when p_now is null then 'true'
        when p_seen is null
            then format('pg_catalog.pg_visible_in_snapshot(r.changed_in, %L::pg_catalog.pg_snapshot)', p_now)
        else format(
            'r.changed_in operator(pg_catalog.>=) %1$L::pg_catalog.xid8 '
            'and not pg_catalog.pg_visible_in_snapshot(r.changed_in, %2$L::pg_catalog.pg_snapshot) '
            'and pg_catalog.pg_visible_in_snapshot(r.changed_in, %3$L::pg_catalog.pg_snapshot)',
            pg_snapshot_xmin(p_seen), p_seen, p_now
        )
    end
);

comment on function sqlkit._changed_rows(regclass, pg_snapshot, pg_snapshot) is
'A query for the rows that transactions have changed which one snapshot does not see and the other does; without the
first those that the other sees, without both all rows.';


create or replace function sqlkit._settled_changes()
returns pg_snapshot
language sql
volatile
set search_path = pg_catalog, pg_temp
as $settled_changes$
    -- A snapshot sees what its own transaction has written, and would go on to claim so for what comes yet.
    select
        case
            when o.own >= pg_snapshot_xmax(s.now) then s.now
            else format(
                '%s:%s:%s',
                least(pg_snapshot_xmin(s.now), o.own),
                pg_snapshot_xmax(s.now),
                (
                    select string_agg(x.xid::text, ',' order by x.xid)
                    from (
                        select pg_snapshot_xip(s.now) as xid
                        union
                        select o.own
                    ) as x
                )
            )::pg_snapshot
        end as settled
    from (select pg_current_snapshot() as now) as s
    cross join (select pg_current_xact_id() as own) as o;
$settled_changes$;

comment on function sqlkit._settled_changes() is
'A snapshot that sees all transactions that have ended by now, and not the one that asks.';


create or replace function sqlkit._refuse_failing(
    p_query text,
    p_search_path text,
    p_first bigint,
    p_last bigint,
    p_most bigint
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $refuse_failing$
declare
    v_found bigint := (select count(*) from pg_temp.sqlkit_failing);
    v_middle bigint := p_first + (p_last - p_first) / 2;
    -- A whole row is counted, so that every column of it is computed.
    v_statement text := format(
        E'select pg_catalog.count(q) from (select * from (%s\n) as r offset 0) as q', p_query
    );
    v_sqlstate text;
    v_message text;
    v_detail text;
    v_hint text;
begin
    if v_found > p_most then
        return;
    end if;
    begin
        perform set_config('sqlkit.first_row', p_first::text, true);
        perform set_config('sqlkit.last_row', p_last::text, true);
        perform set_config('search_path', p_search_path, true);
        execute v_statement;
        return;
    exception
        when others then
            if not sqlkit._may_lie_in_row(sqlstate) then
                raise;
            end if;
            get stacked diagnostics
                v_sqlstate = returned_sqlstate,
                v_message = message_text,
                v_detail = pg_exception_detail,
                v_hint = pg_exception_hint;
    end;
    if p_first = p_last then
        insert into pg_temp.sqlkit_failing (line, sqlstate, message)
        values (p_first, v_sqlstate, v_message);
        return;
    end if;
    perform sqlkit._refuse_failing(p_query, p_search_path, p_first, v_middle, p_most);
    perform sqlkit._refuse_failing(p_query, p_search_path, v_middle + 1, p_last, p_most);
    if v_found = (select count(*) from pg_temp.sqlkit_failing) then
        -- Only together do they make it fail: it lies in no row.
        raise exception using errcode = v_sqlstate, message = v_message, detail = v_detail, hint = v_hint;
    end if;
end;
$refuse_failing$;

comment on function sqlkit._refuse_failing(text, text, bigint, bigint, bigint) is
'Notes in pg_temp.sqlkit_failing the rows of pg_temp.sqlkit_seen in a range for which the query of a transform fails
by itself, found by halves; it looks no further once there are more than p_most.
Raises: the query''s error where rows make it fail only together.';


create or replace function sqlkit._stage_carefully(
    p_target regclass,
    p_source regclass,
    p_query text,
    p_run_id bigint,
    p_search_path text,
    p_lookups jsonb,
    p_most bigint
)
returns regclass
language plpgsql
set search_path = pg_catalog, pg_temp
as $stage_carefully$
declare
    v_query text := rtrim(p_query, E'; \n\r\t');
    v_columns name[];
    v_rows bigint;
    v_stage regclass;
    v_statement text;
begin
    create temporary table sqlkit_failing (line bigint primary key, sqlstate text, message text) on commit drop;
    create temporary table sqlkit_seen on commit drop as
    select
        row_number() over () as sqlkit_row,
        r.*
    from pg_temp.sqlkit_changed as r;
    get diagnostics v_rows = row_count;
    create unique index on pg_temp.sqlkit_seen (sqlkit_row);
    analyze pg_temp.sqlkit_seen;
    execute format(
        'create or replace temporary view sqlkit_changed as select %s from pg_temp.sqlkit_seen as r '
        'where r.sqlkit_row operator(pg_catalog.>=) pg_catalog.current_setting(''sqlkit.first_row'')::bigint '
        'and r.sqlkit_row operator(pg_catalog.<=) pg_catalog.current_setting(''sqlkit.last_row'')::bigint '
        'and not exists (select from pg_temp.sqlkit_failing as f where f.line operator(pg_catalog.=) r.sqlkit_row)',
        (
            select string_agg(format('r.%I', a.attname), ', ' order by a.attnum)
            from pg_attribute as a
            where a.attrelid = p_source and a.attnum > 0 and not a.attisdropped
        )
    );
    v_columns := sqlkit._query_columns(v_query, p_search_path);
    v_stage := sqlkit.create_text_stage(p_target, v_columns, p_run_id);
    perform sqlkit._refuse_columns(p_target, array(
        select k.name
        from unnest(v_columns) as k (name)
        where k.name <> all (sqlkit._only_looked_up(p_target, p_lookups))
    ));
    perform sqlkit._add_lookups(v_stage, p_lookups, p_search_path);
    perform sqlkit._refuse_failing(v_query, p_search_path, 1, v_rows, p_most);
    execute format(
        'insert into %s '
        '(sqlkit_first_line, sqlkit_last_line, sqlkit_lines, sqlkit_raw, sqlkit_sqlstate, sqlkit_message) '
        'select f.line, f.line, ''empty'', (to_jsonb(r.*) - array[''sqlkit_row'', ''changed_in''])::text, '
        'f.sqlstate, f.message from pg_temp.sqlkit_failing as f join pg_temp.sqlkit_seen as r on r.sqlkit_row = f.line',
        v_stage
    );
    perform set_config('sqlkit.first_row', '1', true);
    perform set_config('sqlkit.last_row', v_rows::text, true);
    -- What the query made comes after what it could not be asked for.
    v_statement := format(
        E'insert into %s (sqlkit_first_line, sqlkit_last_line, sqlkit_lines, sqlkit_raw, %s) '
        'select %3$s operator(pg_catalog.+) pg_catalog.row_number() over (), '
        '%3$s operator(pg_catalog.+) pg_catalog.row_number() over (), ''empty'', '
        'pg_catalog.to_jsonb(q.*)::pg_catalog.text, %4$s from (%5$s\n) as q',
        v_stage,
        sqlkit._column_list(v_columns, '%I'),
        v_rows,
        sqlkit._column_list(v_columns, 'q.%I::pg_catalog.text'),
        v_query
    );
    perform set_config('search_path', p_search_path, true);
    execute v_statement;
    return v_stage;
end;
$stage_carefully$;

comment on function sqlkit._stage_carefully(regclass, regclass, text, bigint, text, jsonb, bigint) is
'Makes a text stage of what the query of a transform makes of the changed rows, without those for which it fails: they
stand in it as what is no row, up to one more than p_most. Leaves pg_temp.sqlkit_seen and pg_temp.sqlkit_failing,
which the view sqlkit_changed then reads.';


create or replace function sqlkit.apply_transform(
    p_source regclass,
    p_target regclass,
    p_query text,
    p_policy text default 'update',
    p_key name[] default null,
    p_order_by name default null,
    p_name text default '',
    p_full boolean default false,
    p_run_id bigint default null,
    p_search_path text default current_setting('search_path'),
    p_lookups jsonb default '[]',
    p_limit bigint default 0,
    p_share double precision default null
)
returns sqlkit.transform_result
language plpgsql
set search_path = pg_catalog, pg_temp
as $apply_transform$
declare
    v_source text := sqlkit._table_name(p_source);
    v_target text := sqlkit._table_name(p_target);
    v_run_id bigint := p_run_id;
    v_lsn pg_lsn := pg_current_wal_insert_lsn();
    v_known sqlkit.transform;
    v_now pg_snapshot;
    v_at timestamptz;
    v_is_restored boolean := false;
    v_rows bigint;
    v_counts sqlkit.row_counts := (0, 0, 0, 0, 0, 0, 0);
    v_stage regclass;
    v_may_refuse boolean := p_limit is distinct from 0 or p_share is not null;
    v_is_refused boolean := false;
begin
    if not sqlkit._is_followed(p_source) then
        raise exception using
            errcode = 'SK220',
            message = 'the source does not tell which of its rows have changed',
            detail = format('Source: %s.', coalesce(v_source, p_source::text)),
            hint = format('select sqlkit.follow_changes(%L);', v_source);
    end if;
    -- Two programs that apply the same transform meet here: the second one finds what the first has left.
    perform pg_advisory_xact_lock(
        'sqlkit.transform'::regclass::oid::integer, hashtext(concat_ws(' ', v_target, v_source, p_name))
    );
    select t.*
    into v_known
    from sqlkit.transform as t
    where t.target = v_target and t.source = v_source and t.name = p_name;
    v_now := sqlkit._settled_changes();
    v_at := clock_timestamp();
    -- In a cluster that this was restored into, transactions are counted anew: what was seen means nothing there.
    if p_full or pg_snapshot_xmax(v_known.changes_seen) > pg_snapshot_xmax(v_now) then
        v_known.changes_seen := null;
    end if;
    if v_known.changes_seen is null then
        -- Nor would this snapshot see the rows that were restored with transactions yet to come.
        execute format(
            'select exists (select from %s where changed_in operator(pg_catalog.>=) $1 '
            'and changed_in operator(pg_catalog.<>) $2)',
            v_source
        )
        into v_is_restored
        using pg_snapshot_xmax(v_now), pg_current_xact_id();
    end if;
    if p_run_id is null then
        v_run_id := sqlkit.start_run(
            'transform', p_target, p_policy, p_key,
            jsonb_strip_nulls(jsonb_build_object('source', v_source, 'name', p_name, 'full', nullif(p_full, false)))
        );
    end if;
    execute 'create temporary view sqlkit_changed as ' || sqlkit._changed_rows(
        p_source, v_known.changes_seen, case when not v_is_restored then v_now end
    );
    select count(*)
    into v_rows
    from pg_temp.sqlkit_changed;
    if v_rows > 0 then
        perform set_config('sqlkit.run_id', v_run_id::text, true);
        perform set_config('sqlkit.batch_rows', v_rows::text, true);
        perform set_config(
            'sqlkit.watermark',
            case when v_known.changes_seen is null then '' else v_known.applied_at::text end,
            true
        );
        begin
            v_stage := sqlkit.stage_query(
                p_target, p_query, v_run_id,
                p_search_path => p_search_path, p_left_out => sqlkit._only_looked_up(p_target, p_lookups)
            );
            perform sqlkit._add_lookups(v_stage, p_lookups, p_search_path);
            v_counts := sqlkit.merge_batch(
                v_run_id, null, null, array[v_stage], p_target, p_policy, p_key, p_order_by,
                p_search_path => p_search_path
            );
            perform sqlkit.drop_stage(v_stage);
        exception
            when others then
                if not v_may_refuse or not (sqlkit._may_lie_in_row(sqlstate) or sqlstate = '42501') then
                    raise;
                end if;
                v_is_refused := true;
        end;
    end if;
    if v_is_refused then
        v_stage := sqlkit._stage_carefully(
            p_target, p_source, p_query, v_run_id, p_search_path, p_lookups,
            least(p_limit, floor(p_share * v_rows)::bigint)
        );
        v_counts := sqlkit._merge_text_batch(
            v_run_id, null, null, v_stage, p_target, p_policy, p_key, p_order_by, p_limit, p_share, 0, 0,
            p_search_path, null
        );
        perform sqlkit.drop_stage(v_stage);
    end if;
    drop view pg_temp.sqlkit_changed;
    drop table if exists pg_temp.sqlkit_seen, pg_temp.sqlkit_failing;
    if v_counts.rows_read is null then
        if p_run_id is null then
            perform sqlkit.finish_run(v_run_id, 'SK301', 'more rows were refused than the limit allows');
        end if;
        return null;
    end if;
    update sqlkit.run as u
    set options = u.options || jsonb_build_object('rows_source', v_rows)
    where u.run_id = v_run_id;
    insert into sqlkit.transform (target, source, name, changes_seen, run_id, query_sha256, applied_at)
    values (
        v_target, v_source, p_name, v_now, v_run_id, encode(sha256(convert_to(p_query, 'UTF8')), 'hex'), v_at
    )
    on conflict (target, source, name) do update
    set
        changes_seen = excluded.changes_seen,
        run_id = excluded.run_id,
        query_sha256 = excluded.query_sha256,
        applied_at = excluded.applied_at;
    if v_known.changes_seen is null then
        -- All rows were looked at: what is still refused is a reject of this run.
        update sqlkit.reject as j
        set state = 'replayed', settled_at = clock_timestamp(), settled_by_run_id = v_run_id
        from sqlkit.run as u
        where
            j.state = 'open' and u.run_id = j.run_id and u.run_id <> v_run_id
            and u.kind = 'transform' and u.target = v_target
            and u.options ->> 'source' = v_source and coalesce(u.options ->> 'name', '') = p_name;
    end if;
    if p_run_id is null then
        perform sqlkit.finish_run(
            v_run_id, p_wal_bytes => pg_wal_lsn_diff(pg_current_wal_insert_lsn(), v_lsn)::bigint
        );
    end if;
    return (
        v_rows, v_counts.rows_read, v_counts.rows_inserted, v_counts.rows_updated, v_counts.rows_unchanged,
        v_counts.rows_ignored, v_counts.rows_duplicate, v_counts.rows_rejected
    )::sqlkit.transform_result;
end;
$apply_transform$;

comment on function sqlkit.apply_transform(
    regclass, regclass, text, text, name[], name, text, boolean, bigint, text, jsonb, bigint, double precision
) is
'Makes rows of raw rows and merges them into a target under a policy, as merge_stage() does. The query reads
pg_temp.sqlkit_changed: the rows of the source that were changed since this transform (target, source and p_name) was
applied last, or all of them with p_full; where there are none it is not run. A row is never missed because its
transaction was open meanwhile: it is left for the next time, as what the caller''s own transaction has written is. Of
rows with the same key the last one counts, so let the query order them. The settings sqlkit.run_id, sqlkit.batch_rows and
sqlkit.watermark (when it was applied last; empty at first) are there for the query, which runs under p_search_path,
the caller''s unless said. p_lookups: columns of the target that get ids, each an object of what add_lookup() is told
([{"column": "product_id", "dimension": "shop.product", "keys": ["code"]}]); the query gives the natural keys then.
p_run_id: a run that the caller opened and closes.
p_limit (a number of rows; null: any) and p_share (0 to 1 of them): so many may be refused, and are kept in
sqlkit.reject: rows of the source for which the query fails, as they are, and rows that it made and the target refuses.
They come again when the row of the source is changed. Where more are refused nothing is merged and nothing counts as
seen: the result is null, and what was found is in sqlkit.reject without a batch. Where all rows are looked at, the open
rejects of earlier runs of this transform are replayed: what is still refused is a reject of this run.
Writes: the target, sqlkit.transform, sqlkit.run, sqlkit.batch, sqlkit.reject. Locks: advisory, on the transform; SHARE ROW EXCLUSIVE
on the target until commit, except for append. Raises: SK220 if the source does not follow its changes, what
merge_stage() and add_lookup() raise, and the query''s and the target''s own errors.';
