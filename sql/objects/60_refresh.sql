-- Refresh: a stage holds the whole new content of a target, or of a scope of it. Three strategies bring it there;
-- here stands what they share, and what a caller calls.

create or replace function sqlkit._query_columns(p_query text, p_search_path text)
returns name[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $query_columns$
declare
    v_statement text := format(E'create temporary table sqlkit_query on commit drop as %s\nwith no data', p_query);
    v_columns name[];
begin
    -- The query is the caller's, and finds its tables where he would; nothing else is looked for there.
    perform set_config('search_path', p_search_path, true);
    execute v_statement;
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    select array_agg(a.attname order by a.attnum)
    into v_columns
    from pg_attribute as a
    where a.attrelid = 'pg_temp.sqlkit_query'::regclass and a.attnum > 0;
    drop table pg_temp.sqlkit_query;
    return v_columns;
end;
$query_columns$;

comment on function sqlkit._query_columns(text, text) is
'The columns of a query, which is not run. Raises: the query''s errors.';


create or replace function sqlkit.stage_query(
    p_target regclass,
    p_query text,
    p_run_id bigint default null,
    p_name name default null,
    p_search_path text default current_setting('search_path'),
    p_left_out name[] default '{}'
)
returns regclass
language plpgsql
set search_path = pg_catalog, pg_temp
as $stage_query$
declare
    v_query text := rtrim(p_query, E'; \n\r\t');
    v_statement text;
    v_stage regclass;
begin
    v_stage := sqlkit.create_stage(
        p_target, sqlkit._query_columns(v_query, p_search_path), p_name, p_left_out, p_run_id
    );
    v_statement := format('insert into %s %s', sqlkit._table_name(v_stage), v_query);
    perform set_config('search_path', p_search_path, true);
    execute v_statement;
    return v_stage;
end;
$stage_query$;

comment on function sqlkit.stage_query(regclass, text, bigint, name, text, name[]) is
'Makes a stage of the target that holds the rows of a query, whose columns are named like the target''s, and returns
it. Columns in p_left_out are there as text, for add_lookup() say, and are not merged. The query runs under
p_search_path, the caller''s unless said.
Writes: sqlkit.stage. Raises: SK201 no table, SK204 unknown column, SK205 generated column, and the query''s errors.';


create or replace function sqlkit._refuse_deletion(
    p_target regclass,
    p_rows bigint,
    p_of bigint,
    p_delete_share double precision,
    p_delete_limit bigint
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $refuse_deletion$
begin
    if p_rows > least(p_delete_limit, floor(p_delete_share * p_of)) then
        raise exception using
            errcode = 'SK304',
            message = format('%s of %s rows would be deleted, and the limit is lower', p_rows, p_of),
            detail = format(
                'Target: %s; limit: %s.',
                sqlkit._table_name(p_target),
                concat_ws(' and ', p_delete_share * 100 || '%', p_delete_limit || ' rows')
            ),
            hint = 'Is the input complete? If it is, raise the limit: --max-delete 50%, p_delete_share => 0.5.';
    end if;
end;
$refuse_deletion$;

comment on function sqlkit._refuse_deletion(regclass, bigint, bigint, double precision, bigint) is
'Raises SK304 if p_rows of p_of rows are more than a share (0 to 1), or more than a number of rows; a null limits
nothing.';


create or replace function sqlkit._refuse_scope(p_target regclass, p_strategy text, p_scope name[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $refuse_scope$
begin
    if p_scope is not null then
        perform sqlkit._refuse_strategy(
            p_target, p_strategy, array['a scope is given, and only mirror keeps what lies outside of it']
        );
    end if;
end;
$refuse_scope$;

comment on function sqlkit._refuse_scope(regclass, text, name[]) is
'Raises SK210 if there is a scope: for strategies that know of none.';


create or replace function sqlkit._refuse_versions(p_stage regclass, p_target regclass)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $refuse_versions$
declare
    v_columns name[] := sqlkit._staged_columns(p_stage, p_target);
    v_period name;
begin
    select k.period
    into v_period
    from sqlkit._history_keys(p_target) as k
    join pg_attribute as a on a.attrelid = p_target and a.attname = k.period
    where k.period <> all (v_columns) and a.attgenerated = ''
    limit 1;
    if v_period is not null then
        perform sqlkit._refuse_history(
            p_target,
            format('the target keeps versions of rows by column %I, and the new content has none', v_period),
            'Load it under policy history, which ends versions and adds new ones; a refresh takes rows with their ranges.'
        );
    end if;
end;
$refuse_versions$;

comment on function sqlkit._refuse_versions(regclass, regclass) is
'Raises SK212 if a target keeps versions of its rows, and a stage does not say when they are valid: a refresh would
lose them.';


create or replace function sqlkit._threshold(p_name text)
returns double precision
language sql
stable
begin atomic
select t.value
from sqlkit.refresh_threshold as t
where t.name = p_name
order by t.is_default
limit 1;
end;

comment on function sqlkit._threshold(text) is
'A threshold: the installation''s own, or the default.';


create or replace function sqlkit._refuse_unknown_strategy(p_target regclass, p_strategy text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $refuse_unknown_strategy$
begin
    raise exception using
        errcode = 'SK209',
        message = format('there is no strategy %L', p_strategy),
        detail = format('Target: %s.', sqlkit._table_name(p_target)),
        hint = 'Strategies are auto, truncate, swap and mirror.';
end;
$refuse_unknown_strategy$;

comment on function sqlkit._refuse_unknown_strategy(regclass, text) is
'Raises SK209: there is no such strategy of a refresh.';


create or replace function sqlkit._refresh(
    p_stage regclass,
    p_target regclass,
    p_strategy text,
    p_key name[],
    p_scope name[],
    p_delete_share double precision,
    p_delete_limit bigint
)
returns sqlkit.refresh_result
language plpgsql
set search_path = pg_catalog, pg_temp
as $refresh$
declare
    v_copy regclass;
    v_result sqlkit.refresh_result;
    r_chosen record;
begin
    perform sqlkit._check_target(p_target);
    perform sqlkit._refuse_versions(p_stage, p_target);
    case p_strategy
        when 'auto' then
            select c.*
            into r_chosen
            from sqlkit.choose_strategy(p_stage, p_scope, p_key) as c;
            return sqlkit._refresh(
                p_stage, p_target, r_chosen.strategy, p_key, p_scope, p_delete_share, p_delete_limit
            );
        when 'mirror' then
            return sqlkit._mirror(p_stage, p_target, p_key, p_scope, p_delete_share, p_delete_limit);
        when 'truncate' then
            perform sqlkit._refuse_scope(p_target, p_strategy, p_scope);
            return sqlkit._truncate(p_stage, p_target, p_key, p_delete_share, p_delete_limit);
        when 'swap' then
            perform sqlkit._refuse_scope(p_target, p_strategy, p_scope);
            v_copy := sqlkit._create_copy(p_target, null);
            v_result := sqlkit._fill_copy(v_copy, p_stage, p_target, p_key, p_delete_share, p_delete_limit);
            perform sqlkit._exchange(p_target, v_copy);
            return v_result;
        else
            perform sqlkit._refuse_unknown_strategy(p_target, p_strategy);
            return null;
    end case;
end;
$refresh$;

comment on function sqlkit._refresh(regclass, regclass, text, name[], name[], double precision, bigint) is
'Refreshes a target from a stage by a strategy. Raises: SK209 if there is no such strategy.';


create or replace function sqlkit._record_refresh(
    p_run_id bigint,
    p_result sqlkit.refresh_result,
    p_seconds double precision,
    p_wal_bytes bigint
)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $record_refresh$
    insert into sqlkit.batch (
        run_id, rows_read, rows_inserted, rows_updated, rows_unchanged, rows_ignored, rows_duplicate, rows_deleted,
        seconds_merge, wal_bytes, indexes
    )
    values (
        p_run_id, (p_result).rows_read, (p_result).rows_inserted, (p_result).rows_updated,
        (p_result).rows_unchanged, (p_result).rows_ignored, (p_result).rows_duplicate, (p_result).rows_deleted,
        p_seconds, p_wal_bytes, sqlkit._take_index_decision()
    );
$record_refresh$;

comment on function sqlkit._record_refresh(bigint, sqlkit.refresh_result, double precision, bigint) is
'Records a refresh as the one batch of its run, in the transaction that wrote its rows. Writes: sqlkit.batch.';


create or replace function sqlkit.refresh_batch(
    p_run_id bigint,
    p_stage regclass,
    p_strategy text,
    p_scope name[] default null,
    p_delete_share double precision default 0.1,
    p_delete_limit bigint default null,
    p_key name[] default null,
    p_rows bigint default null,
    p_search_path text default current_setting('search_path')
)
returns sqlkit.refresh_result
language plpgsql
set search_path = pg_catalog, pg_temp
as $refresh_batch$
declare
    v_target regclass := sqlkit._stage_target(p_stage);
    v_start timestamptz := clock_timestamp();
    v_lsn pg_lsn := pg_current_wal_insert_lsn();
    v_result sqlkit.refresh_result;
begin
    perform set_config('sqlkit.search_path', p_search_path, true);
    if p_rows is not null then
        perform sqlkit.check_stages(array[p_stage], p_rows);
    end if;
    perform sqlkit._resolve_lookups(array[p_stage]);
    v_result := sqlkit._refresh(p_stage, v_target, p_strategy, p_key, p_scope, p_delete_share, p_delete_limit);
    perform sqlkit._record_refresh(
        p_run_id,
        v_result,
        extract(epoch from clock_timestamp() - v_start),
        pg_wal_lsn_diff(pg_current_wal_insert_lsn(), v_lsn)::bigint
    );
    return v_result;
end;
$refresh_batch$;

comment on function sqlkit.refresh_batch(
    bigint, regclass, text, name[], double precision, bigint, name[], bigint, text
) is
'Refreshes the target of a stage and records that as a batch of a run: one call, one transaction. See refresh_stage().
p_rows, where it is said, is how many rows the stage must hold.
Writes: the target, sqlkit.batch. Locks: SHARE ROW EXCLUSIVE on the target until commit.
Raises: SK404 if the stage has lost its rows, and what refresh_stage() raises.';


create or replace function sqlkit.refresh_stage(
    p_stage regclass,
    p_strategy text default 'auto',
    p_scope name[] default null,
    p_delete_share double precision default 0.1,
    p_delete_limit bigint default null,
    p_key name[] default null,
    p_search_path text default current_setting('search_path')
)
returns sqlkit.refresh_result
language plpgsql
set search_path = pg_catalog, pg_temp
as $refresh_stage$
declare
    v_lsn pg_lsn := pg_current_wal_insert_lsn();
    v_run_id bigint;
    v_result sqlkit.refresh_result;
begin
    v_run_id := sqlkit.start_run(
        'refresh', sqlkit._stage_target(p_stage), p_strategy, p_key,
        jsonb_strip_nulls(jsonb_build_object(
            'scope', p_scope, 'delete_share', p_delete_share, 'delete_limit', p_delete_limit
        ))
    );
    v_result := sqlkit.refresh_batch(
        v_run_id, p_stage, p_strategy, p_scope, p_delete_share, p_delete_limit, p_key,
        p_search_path => p_search_path
    );
    perform sqlkit.finish_run(
        v_run_id, p_wal_bytes => pg_wal_lsn_diff(pg_current_wal_insert_lsn(), v_lsn)::bigint
    );
    execute format('truncate table %s', p_stage);
    return v_result;
end;
$refresh_stage$;

comment on function sqlkit.refresh_stage(
    regclass, text, name[], double precision, bigint, name[], text
) is
'Gives a target the rows of a stage, and no others, empties the stage, and says what became of the rows. Of rows with
the same key the last one is taken.
mirror: only differences are written. With p_scope, columns of the target, only rows go whose values there occur in
the stage: those of a store of which new data came.
Nothing is done if more rows would go than p_delete_share (0 to 1) of those in scope, or more than p_delete_limit.
The target''s triggers and defaults run under p_search_path, the caller''s unless said.
Writes: the target, sqlkit.run, sqlkit.batch. Locks: SHARE ROW EXCLUSIVE on the target until commit.
Raises: SK201 to SK204, SK208, SK209, SK212 for a history of which the stage tells no ranges, SK304, and the target''s
own errors.';


create or replace function sqlkit._finish_swap(
    p_run_id bigint,
    p_target regclass,
    p_copy regclass,
    p_result sqlkit.refresh_result,
    p_started timestamptz,
    p_lsn pg_lsn
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $finish_swap$
begin
    perform sqlkit._await_snapshots(p_copy);
    perform sqlkit._record_refresh(
        p_run_id,
        p_result,
        extract(epoch from clock_timestamp() - p_started),
        pg_wal_lsn_diff(pg_current_wal_insert_lsn(), p_lsn)::bigint
    );
    -- Last, since readers wait from here to the commit.
    perform sqlkit._exchange(p_target, p_copy);
end;
$finish_swap$;

comment on function sqlkit._finish_swap(
    bigint, regclass, regclass, sqlkit.refresh_result, timestamptz, pg_lsn
) is
'Puts a copy that is committed in the place of its target, and records that as the batch of a run.
Writes: sqlkit.batch, sqlkit.stage. Locks and Raises: see _exchange().';


create or replace procedure sqlkit.refresh(
    p_target regclass,
    p_query text default null,
    p_stage regclass default null,
    p_strategy text default 'auto',
    p_scope name[] default null,
    p_delete_share double precision default 0.1,
    p_delete_limit bigint default null,
    p_key name[] default null,
    p_run_id bigint default null,
    p_rows bigint default null,
    p_search_path text default pg_catalog.current_setting('search_path'),
    p_tune boolean default false,
    inout strategy text default null,
    inout rows_read bigint default null,
    inout rows_inserted bigint default null,
    inout rows_updated bigint default null,
    inout rows_unchanged bigint default null,
    inout rows_ignored bigint default null,
    inout rows_duplicate bigint default null,
    inout rows_deleted bigint default null
)
language plpgsql
as $refresh$
declare
    v_run_id bigint := p_run_id;
    v_stage regclass := p_stage;
    v_strategy text := p_strategy;
    v_started timestamptz := pg_catalog.clock_timestamp();
    v_lsn pg_lsn := pg_catalog.pg_current_wal_insert_lsn();
    v_code text;
    v_message text;
    v_detail text;
    v_hint text;
    v_copy regclass;
    v_result sqlkit.refresh_result;
    r_chosen record;
begin
    if p_run_id is null then
        perform sqlkit.repair_runs(p_target);
        v_run_id := sqlkit.start_run('refresh', p_target, p_strategy, p_key);
    end if;
    -- A run that the caller closes is not told of as done before all is on disk.
    if p_tune then
        perform sqlkit.tune_transaction(case when p_run_id is not null then 'off' end);
    end if;
    if p_stage is null then
        v_stage := sqlkit.stage_query(p_target, p_query, v_run_id, p_search_path => p_search_path);
    else
        perform sqlkit._check_stage(p_stage, p_target, p_rows);
        perform sqlkit._resolve_lookups(array[p_stage]);
    end if;
    if p_strategy operator(pg_catalog.=) 'auto' then
        select c.* into r_chosen from sqlkit.choose_strategy(v_stage, p_scope, p_key) as c;
        v_strategy := r_chosen.strategy;
        perform sqlkit._note_choice(v_run_id, r_chosen.strategy, r_chosen.reasons);
    end if;
    if v_strategy operator(pg_catalog.<>) 'swap' then
        v_result := sqlkit.refresh_batch(
            v_run_id, v_stage, v_strategy, p_scope, p_delete_share, p_delete_limit, p_key,
            p_search_path => p_search_path
        );
    else
        perform sqlkit._refuse_scope(p_target, v_strategy, p_scope);
        perform sqlkit._refuse_versions(v_stage, p_target);
        perform pg_catalog.set_config('sqlkit.search_path', p_search_path, true);
        v_copy := sqlkit._create_copy(p_target, v_run_id);
        v_result := sqlkit._fill_copy(v_copy, v_stage, p_target, p_key, p_delete_share, p_delete_limit);
        -- The new table is there for all to see before it takes the place of the old one.
        commit;
        if p_tune then
            perform sqlkit.tune_transaction(case when p_run_id is not null then 'off' end);
        end if;
        begin
            perform sqlkit._finish_swap(v_run_id, p_target, v_copy, v_result, v_started, v_lsn);
        exception
            when others then
                get stacked diagnostics
                    v_code = returned_sqlstate, v_message = message_text,
                    v_detail = pg_exception_detail, v_hint = pg_exception_hint;
        end;
        if v_code is not null then
            perform sqlkit.drop_stage(v_copy);
        end if;
        commit;
    end if;
    if p_stage is null then
        perform sqlkit.drop_stage(v_stage);
    elsif v_code is null then
        perform sqlkit.empty_stages(array[v_stage]);
    end if;
    if p_run_id is null then
        perform sqlkit.finish_run(
            v_run_id, v_code, v_message,
            pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), v_lsn)::bigint
        );
    end if;
    if v_code is not null then
        commit;
        raise exception using errcode = v_code, message = v_message, detail = v_detail, hint = v_hint;
    end if;
    strategy := v_result.strategy;
    rows_read := v_result.rows_read;
    rows_inserted := v_result.rows_inserted;
    rows_updated := v_result.rows_updated;
    rows_unchanged := v_result.rows_unchanged;
    rows_ignored := v_result.rows_ignored;
    rows_duplicate := v_result.rows_duplicate;
    rows_deleted := v_result.rows_deleted;
end;
$refresh$;

comment on procedure sqlkit.refresh (
    regclass, text, regclass, text, name [], double precision, bigint, name [], bigint, bigint, text, boolean,
    text, bigint, bigint, bigint, bigint, bigint, bigint, bigint
) is
'Refreshes a target from a query, or from a stage, as refresh_stage() does, and commits: call it outside of a
transaction. A swap is built and committed before the exchange, so that readers are held up for a moment only, and
whoever reads with an older snapshot is waited for. p_run_id, p_rows: a run that the caller opened and closes, and how
many rows the stage must hold. p_tune: with more memory for sorts, hashes and indexes, see tune_transaction().
Writes: the target, sqlkit.run, sqlkit.batch, sqlkit.stage. Locks and Raises: see refresh_stage(); 2D000 within a
transaction, for a swap.';


create or replace function sqlkit._check_stage(p_stage regclass, p_target regclass, p_rows bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $check_stage$
begin
    if sqlkit._stage_target(p_stage) <> p_target then
        raise exception using
            errcode = 'SK208',
            message = 'there is no such stage of the target',
            detail = format('Relation: %s; target: %s.', p_stage, sqlkit._table_name(p_target)),
            hint = 'Make one with sqlkit.create_stage().';
    end if;
    if p_rows is not null then
        perform sqlkit.check_stages(array[p_stage], p_rows);
    end if;
end;
$check_stage$;

comment on function sqlkit._check_stage(regclass, regclass, bigint) is
'Raises SK208 if the stage is not one of the target, SK404 if it does not hold as many rows as it should.';


create or replace function sqlkit._note_choice(p_run_id bigint, p_strategy text, p_reasons text[])
returns void
language sql
set search_path = pg_catalog, pg_temp
as $note_choice$
    update sqlkit.run
    set policy = p_strategy, reasons = array_cat(reasons, p_reasons)
    where run_id = p_run_id;
$note_choice$;

comment on function sqlkit._note_choice(bigint, text, text[]) is
'Records which strategy auto chose, and why. Writes: sqlkit.run.';
