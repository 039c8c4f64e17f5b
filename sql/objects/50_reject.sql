-- The careful way, second half: what is sound is merged, what is not is kept as rejects.

create or replace function sqlkit._may_write_rows(
    p_target regclass,
    p_columns name[],
    p_policy text,
    p_key name[]
)
returns boolean
language sql
stable
return (
    select
        bool_and(
            has_column_privilege(p_target, c.name, 'insert')
            and case
                when p_policy = 'append' then true
                -- LOCK TABLE asks for one of these.
                when not has_table_privilege(p_target, 'update, delete, truncate') then false
                when p_policy in ('ignore', 'error') or c.name = any(p_key) then true
                else has_column_privilege(p_target, c.name, 'update')
            end
        )
    from unnest(p_columns) as c (name)
);

comment on function sqlkit._may_write_rows(regclass, name[], text, name[]) is
'True if no privilege is missing for rows with these columns to be merged into a target, so that it lies in the row
if one is refused.';


create or replace function sqlkit._sum_counts(p_one sqlkit.row_counts, p_other sqlkit.row_counts)
returns sqlkit.row_counts
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $sum_counts$
begin
    return (
        p_one.rows_read + p_other.rows_read,
        p_one.rows_inserted + p_other.rows_inserted,
        p_one.rows_updated + p_other.rows_updated,
        p_one.rows_unchanged + p_other.rows_unchanged,
        p_one.rows_ignored + p_other.rows_ignored,
        p_one.rows_duplicate + p_other.rows_duplicate,
        p_one.rows_rejected + p_other.rows_rejected
    )::sqlkit.row_counts;
end;
$sum_counts$;

comment on function sqlkit._sum_counts(sqlkit.row_counts, sqlkit.row_counts) is
'What became of two sets of rows.';


create or replace function sqlkit._merge_isolated(
    p_target regclass,
    p_policy text,
    p_key name[],
    p_order_by name,
    p_first_line bigint,
    p_last_line bigint
)
returns sqlkit.row_counts
language plpgsql
set search_path = pg_catalog, pg_temp
as $merge_isolated$
declare
    v_counts sqlkit.row_counts;
    v_rest sqlkit.row_counts;
    v_sqlstate text;
    v_message text;
    v_column text;
    v_rows bigint;
    v_middle bigint;
begin
    begin
        return sqlkit._merge(
            array['pg_temp.sqlkit_sound'::regclass],
            p_target,
            p_policy,
            p_key,
            p_order_by,
            p_filter => format(
                's.sqlkit_line operator(pg_catalog.>=) %s and s.sqlkit_line operator(pg_catalog.<=) %s',
                p_first_line,
                p_last_line
            )
        );
    exception
        when others then
            get stacked diagnostics
                v_sqlstate = returned_sqlstate,
                v_message = message_text,
                v_column = column_name;
            -- Row policies and some triggers refuse rows with the SQLSTATE of a missing privilege.
            if
                not sqlkit._may_lie_in_row(v_sqlstate)
                and not (
                    v_sqlstate = '42501'
                    and sqlkit._may_deny_rows(p_target)
                    and sqlkit._may_write_rows(
                        p_target,
                        sqlkit._staged_columns('pg_temp.sqlkit_sound'::regclass, p_target),
                        p_policy,
                        p_key
                    )
                )
            then
                raise;
            end if;
    end;
    -- So many parts are looked at that none may cost a scan of the whole.
    if not exists (select from pg_index as i where i.indrelid = 'pg_temp.sqlkit_sound'::regclass) then
        create index on pg_temp.sqlkit_sound (sqlkit_line);
        analyze pg_temp.sqlkit_sound;
    end if;
    select count(*), (percentile_disc(0.5) within group (order by s.sqlkit_line))
    into v_rows, v_middle
    from pg_temp.sqlkit_sound as s
    where s.sqlkit_line between p_first_line and p_last_line;
    if v_rows = 1 then
        insert into pg_temp.sqlkit_refused (line, column_name, sqlstate, message)
        values (v_middle, nullif(v_column, ''), v_sqlstate, v_message);
        return (0, 0, 0, 0, 0, 0, 0)::sqlkit.row_counts;
    end if;
    -- In the order of the lines, so that what a row meets is what it would have met by itself.
    v_counts := sqlkit._merge_isolated(p_target, p_policy, p_key, p_order_by, p_first_line, v_middle);
    v_rest := sqlkit._merge_isolated(p_target, p_policy, p_key, p_order_by, v_middle + 1, p_last_line);
    return sqlkit._sum_counts(v_counts, v_rest);
end;
$merge_isolated$;

comment on function sqlkit._merge_isolated(regclass, text, name[], name, bigint, bigint) is
'Merges the lines of pg_temp.sqlkit_sound in a range, by halves where the whole is refused, until what is refused
is single rows, which it notes in pg_temp.sqlkit_refused. For what no set operation finds: triggers that raise,
exclusion constraints, unique indexes on expressions, row policies. Writes: the target.';


create or replace function sqlkit._is_limit_passed(
    p_run_id bigint,
    p_rows_read bigint,
    p_rows_rejected bigint,
    p_limit bigint,
    p_share double precision
)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $is_limit_passed$
declare
    v_rejected bigint;
    v_read bigint;
begin
    select
        coalesce(sum(b.rows_rejected), 0) + p_rows_rejected,
        coalesce(sum(b.rows_read), 0) + p_rows_read
    into v_rejected, v_read
    from sqlkit.batch as b
    where b.run_id = p_run_id;
    return coalesce(v_rejected > p_limit, false) or coalesce(v_rejected > p_share * v_read, false);
end;
$is_limit_passed$;

comment on function sqlkit._is_limit_passed(bigint, bigint, bigint, bigint, double precision) is
'True if the rows refused in a run, with those of a batch that is not recorded yet, are more than the limit: a
number of rows, or a share of the rows read, or either.';


create or replace function sqlkit._keep_rejects(
    p_stage regclass,
    p_refused jsonb,
    p_run_id bigint,
    p_batch_id bigint,
    p_source_id bigint
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $keep_rejects$
begin
    -- What an earlier run was only told of is said anew.
    delete from sqlkit.reject as r
    where r.source_id = p_source_id and r.batch_id is null;
    execute format(
        'insert into sqlkit.reject (run_id, batch_id, source_id, raw, column_name, sqlstate, message, '
        'first_line, last_line, record) '
        'select $1, $2, $3, s.sqlkit_raw, r.column_name, r.sqlstate, r.message, %s '
        'from %s join %s as s on s.sqlkit_first_line = r.line order by r.line',
        sqlkit._record_place(),
        case
            when p_refused is null then 'pg_temp.sqlkit_refused as r'
            else 'jsonb_to_recordset($4) as r (line bigint, column_name name, sqlstate text, message text)'
        end,
        p_stage
    )
    using p_run_id, p_batch_id, p_source_id, p_refused;
end;
$keep_rejects$;

comment on function sqlkit._keep_rejects(regclass, jsonb, bigint, bigint, bigint) is
'Records refused rows with their raw text from the text stage: those given, else those of
pg_temp.sqlkit_refused. Writes: sqlkit.reject.';


create or replace function sqlkit._merge_text_batch(
    p_run_id bigint,
    p_source_id bigint,
    p_range sqlkit.source_range,
    p_stage regclass,
    p_target regclass,
    p_policy text,
    p_key name[],
    p_order_by name,
    p_limit bigint,
    p_share double precision,
    p_seconds_decode double precision,
    p_seconds_copy double precision,
    p_search_path text,
    p_conflicts text
)
returns sqlkit.row_counts
language plpgsql
set search_path = pg_catalog, pg_temp
as $private_merge_text_batch$
declare
    v_counts sqlkit.row_counts := (0, 0, 0, 0, 0, 0, 0);
    v_columns name[] := sqlkit._staged_columns(p_stage, p_target);
    v_lookups jsonb := sqlkit._stage_lookups(p_stage);
    v_sound text := format(
        '(select s.* from %s as s '
        'where not exists (select from pg_temp.sqlkit_refused as r where r.line = s.sqlkit_first_line) offset 0) as s',
        p_stage
    );
    v_key name[];
    v_rows bigint;
    v_batch_id bigint;
    v_told jsonb;
    v_start timestamptz := clock_timestamp();
    v_lsn pg_lsn := pg_current_wal_insert_lsn();
begin
    perform set_config('sqlkit.search_path', p_search_path, true);
    if p_source_id is not null then
        perform sqlkit.claim_batch(p_source_id, (p_range).start_offset);
    end if;
    v_key := sqlkit.find_policy_key(p_target, p_policy, p_key);
    perform sqlkit._check_policy(p_policy, p_target, v_columns, v_key, p_order_by);
    v_rows := sqlkit._count_rows(format('select from %s', p_stage));
    begin
        create temporary table sqlkit_refused (
            line bigint,
            column_name name,
            sqlstate text,
            message text
        ) on commit drop;
        perform sqlkit._refuse_input(p_stage, p_target, v_columns);
        if v_lookups is not null then
            perform sqlkit._refuse_keys(p_stage, v_lookups);
            perform sqlkit._create_missing((
                select jsonb_agg(l.value || jsonb_build_object('source', v_sound))
                from jsonb_array_elements(v_lookups) as l
            ));
        end if;
        execute format(
            'create temporary table sqlkit_sound on commit drop as '
            'select s.sqlkit_first_line as sqlkit_line, %s%s from %s%s order by s.sqlkit_first_line',
            (
                select string_agg(
                    format(
                        '(%s)::%s as %I',
                        coalesce(j.value, format('s.%I', a.attname)), format_type(a.atttypid, a.atttypmod), a.attname
                    ),
                    ', ' order by k.position
                )
                from unnest(v_columns) with ordinality as k (name, position)
                join pg_attribute as a on a.attrelid = p_target and a.attname = k.name
                left join sqlkit._lookup_joins(v_lookups) as j on j.column_name = k.name
            ),
            sqlkit._column_list(sqlkit._absence_column(p_stage, p_policy), ', s.%I', ''),
            v_sound,
            (select string_agg(j.joined, '') from sqlkit._lookup_joins(v_lookups) as j)
        );
        create temporary table sqlkit_behind (like pg_temp.sqlkit_sound) on commit drop;
        perform sqlkit._refuse_by_constraint(p_target, v_columns, p_policy, v_key);
        if v_lookups is not null then
            perform sqlkit._tell_missing_keys(p_stage, v_lookups);
        end if;
        perform sqlkit._refuse_by_unique(p_target, v_columns, p_policy, v_key);
        -- A constraint that waits for the commit would refuse the batch as a whole.
        set constraints all immediate;
        -- Even where the limit is passed as it is: what only writing shows is told with the rest.
        loop
            if p_conflicts is not null then
                perform sqlkit._refuse_by_rule(p_target, v_columns, p_policy, v_key, p_order_by, p_conflicts);
            end if;
            v_counts := sqlkit._sum_counts(
                v_counts, sqlkit._merge_isolated(p_target, p_policy, v_key, p_order_by, 0, 9223372036854775806)
            );
            exit when sqlkit._take_back_behind(p_target, v_columns, p_policy, v_key) = 0;
        end loop;
        if
            sqlkit._is_limit_passed(
                p_run_id, v_rows, (select count(*) from pg_temp.sqlkit_refused), p_limit, p_share
            )
        then
            select jsonb_agg(to_jsonb(r))
            into v_told
            from (select f.* from pg_temp.sqlkit_refused as f order by f.line limit 10000) as r;
            raise exception using errcode = 'SK301';
        end if;

        v_counts.rows_read := v_rows;
        select count(*)
        into v_counts.rows_rejected
        from pg_temp.sqlkit_refused as r;
        v_batch_id := sqlkit.record_batch(
            p_run_id,
            p_source_id,
            p_range,
            v_counts,
            p_seconds_decode,
            p_seconds_copy,
            extract(epoch from clock_timestamp() - v_start),
            pg_wal_lsn_diff(pg_current_wal_insert_lsn(), v_lsn)::bigint
        );
        perform sqlkit._keep_rejects(p_stage, null, p_run_id, v_batch_id, p_source_id);
        if p_conflicts is not null then
            perform sqlkit._keep_trimmed(p_stage, p_run_id, v_batch_id, p_source_id);
            drop table pg_temp.sqlkit_trimmed;
        end if;
        drop table pg_temp.sqlkit_refused, pg_temp.sqlkit_sound, pg_temp.sqlkit_behind;
        return v_counts;
    exception
        when sqlstate 'SK301' then
            -- All is undone but what was found, which a variable carried past that.
            perform sqlkit._keep_rejects(p_stage, v_told, p_run_id, null, p_source_id);
    end;
    return null;
end;
$private_merge_text_batch$;

comment on function sqlkit._merge_text_batch(
    bigint, bigint, sqlkit.source_range, regclass, regclass, text, name[], name, bigint, double precision,
    double precision, double precision, text, text
) is
'Merges a batch that stands in a text stage, held to the rules of the target if p_conflicts says how: what
merge_text_batch() and merge_checked_batch() do.
Raises: SK301 to itself, to undo all but what was found.';


create or replace function sqlkit.merge_text_batch(
    p_run_id bigint,
    p_source_id bigint,
    p_range sqlkit.source_range,
    p_stage regclass,
    p_target regclass,
    p_policy text,
    p_key name[] default null,
    p_order_by name default null,
    p_limit bigint default 0,
    p_share double precision default null,
    p_seconds_decode double precision default 0,
    p_seconds_copy double precision default 0,
    p_search_path text default current_setting('search_path')
)
returns sqlkit.row_counts
language plpgsql
set search_path = pg_catalog, pg_temp
as $merge_text_batch$
begin
    return sqlkit._merge_text_batch(
        p_run_id,
        p_source_id,
        p_range,
        p_stage,
        p_target,
        p_policy,
        p_key,
        p_order_by,
        p_limit,
        p_share,
        p_seconds_decode,
        p_seconds_copy,
        p_search_path,
        null
    );
end;
$merge_text_batch$;

comment on function sqlkit.merge_text_batch(
    bigint, bigint, sqlkit.source_range, regclass, regclass, text, name[], name, bigint, double precision,
    double precision, double precision, text
) is
'Merges a batch that stands in a text stage: finds all its bad rows, keeps them in sqlkit.reject, merges the rest
and records the batch, in one transaction. Where more rows of the run are refused than p_limit (a number; null:
any) or p_share (of the rows read, 0 to 1) allow, the merge is undone: the result is null, and the refused rows (the
first 10,000) are in sqlkit.reject without a batch (SK301 only ends the attempt inside). A row is refused if it is malformed, a value is none of its
column, or it breaks a constraint, a trigger or a row policy of the target; never for what another row is.
Writes: the target, sqlkit.reject, sqlkit.batch, sqlkit.source. Locks: the source''s row, then SHARE ROW
EXCLUSIVE on the target (not for append), until commit. Raises: SK402 if another process loaded this part, SK201 to
SK204, SK206, SK207, SK212 under policy history, SK302 and SK303 under policy error.';


create or replace function sqlkit.merge_checked_batch(
    p_run_id bigint,
    p_source_id bigint,
    p_range sqlkit.source_range,
    p_stage regclass,
    p_target regclass,
    p_policy text,
    p_conflicts text,
    p_key name[] default null,
    p_order_by name default null,
    p_limit bigint default 0,
    p_share double precision default null,
    p_seconds_decode double precision default 0,
    p_seconds_copy double precision default 0,
    p_search_path text default current_setting('search_path')
)
returns sqlkit.row_counts
language plpgsql
set search_path = pg_catalog, pg_temp
as $merge_checked_batch$
begin
    perform sqlkit._check_conflict_way(p_conflicts, p_policy);
    return sqlkit._merge_text_batch(
        p_run_id,
        p_source_id,
        p_range,
        p_stage,
        p_target,
        p_policy,
        p_key,
        p_order_by,
        p_limit,
        p_share,
        p_seconds_decode,
        p_seconds_copy,
        p_search_path,
        p_conflicts
    );
end;
$merge_checked_batch$;

comment on function sqlkit.merge_checked_batch(
    bigint, bigint, sqlkit.source_range, regclass, regclass, text, text, name[], name, bigint, double precision,
    double precision, double precision, text
) is
'Merges a batch that stands in a text stage like merge_text_batch(), held to the conflict rules of the target: its
overlaps, distances and duplicates. With p_conflicts reject, rows that contradict one that the target will hold, or an
earlier one of the batch, are refused (SK806 is their SQLSTATE in sqlkit.reject); with trim, those that overlap are cut,
to the first piece that is free, which is noted in sqlkit.trimmed_row, and only those of which nothing is left, or that
cannot be cut, are refused.
Writes: what merge_text_batch() writes, and sqlkit.trimmed_row. Locks: SHARE ROW EXCLUSIVE on the target until commit,
under every policy. Raises: SK805 for another way, or under policy fill, and what merge_text_batch() raises.';


create or replace function sqlkit.settle_rejects(
    p_run_id bigint,
    p_state text,
    p_reject_ids bigint[] default null,
    p_settled_by_run_id bigint default null
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $settle_rejects$
declare
    v_rows bigint;
begin
    if not exists (select from sqlkit.run as r where r.run_id = p_run_id) then
        raise exception using
            errcode = 'SK401',
            message = 'there is no such run',
            detail = format('Run %s is unknown.', p_run_id),
            hint = 'List them with: select * from sqlkit.run order by run_id;';
    end if;
    update sqlkit.reject as r
    set
        state = p_state,
        settled_at = clock_timestamp(),
        settled_by_run_id = p_settled_by_run_id
    where
        r.run_id = p_run_id
        and r.state = 'open'
        and (p_reject_ids is null or r.reject_id = any (p_reject_ids));
    get diagnostics v_rows = row_count;
    return v_rows;
end;
$settle_rejects$;

comment on function sqlkit.settle_rejects(bigint, text, bigint[], bigint) is
'Marks open rejects of a run, all or those named, as replayed or dismissed, and returns how many.
Writes: sqlkit.reject. Raises: SK401 unknown run, 23514 for another state.';


create or replace view sqlkit.reject_summary as
select
    j.run_id,
    r.target,
    j.state,
    j.sqlstate,
    j.column_name,
    case when j.column_name is null then j.message end as message,
    count(*) as rejects,
    min(s.name) as source,
    min(j.first_line) as first_line,
    -- Of the first alone: all texts together may be more than a value may have.
    (
        select f.message
        from sqlkit.reject as f
        where f.reject_id = min(j.reject_id)
    ) as first_message,
    (
        select f.raw
        from sqlkit.reject as f
        where f.reject_id = min(j.reject_id)
    ) as first_raw,
    bool_and(j.batch_id is null) as is_told_only,
    min(j.record) as record
from sqlkit.reject as j
join sqlkit.run as r on r.run_id = j.run_id
left join sqlkit.source as s on s.source_id = j.source_id
group by
    j.run_id,
    r.target,
    j.state,
    j.sqlstate,
    j.column_name,
    case when j.column_name is null then j.message end;

comment on view sqlkit.reject_summary is
'Rejects by run and reason, each with its number and its first example.';
