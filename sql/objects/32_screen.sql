-- Screening: a piece of a source is freed of its bad rows before COPY takes the rest. The client knows by patterns
-- which records are surely rows; it asks here about the others, as text, and about all rows where constraints are
-- to be held to them. What is asked was planned before: while a first load holds its target, no other session may
-- look at that.

create or replace function sqlkit._surely_valid(p_type oid, p_typmod integer)
returns text
language sql
stable
return (
    select case
        when y.typtype = 'e' then (
            select format('^(%s)$', string_agg(e.enumlabel, '|'))
            from pg_enum as e
            where e.enumtypid = y.oid and e.enumlabel ~ '^[A-Za-z0-9_ -]+$'
        )
        when y.typtype = 'd' then case
            -- A domain is as good as its base where it demands nothing more.
            when
                y.typnotnull
                or exists (
                    select
                    from pg_constraint as c
                    where c.contypid = y.oid
                ) then null
            else sqlkit._valid_pattern(y.typbasetype, y.typtypmod)
        end
        else sqlkit._valid_pattern(p_type, p_typmod)
    end
    from pg_type as y
    where y.oid = p_type
);

comment on function sqlkit._surely_valid(oid, integer) is
'A pattern that only valid values of a type match, of enums and plain domains too; null if there is none.';


create or replace function sqlkit.plan_screen(
    p_target regclass,
    p_columns name[],
    p_left_out name[],
    p_policy text,
    p_key name[] default null
)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $plan_screen$
declare
    v_loaded name[];
    v_types text;
    v_columns jsonb;
    v_nulls text;
    v_checks text;
    v_references text;
    v_constraints jsonb;
begin
    perform sqlkit._check_target(p_target);
    select
        array_agg(k.name order by k.position) filter (where a.attname is not null),
        string_agg(
            format(
                '%I %s%s',
                k.name,
                -- No constraint looks at the others, which are not read twice.
                case when t.is_looked_at then format_type(a.atttypid, a.atttypmod) else 'text' end,
                (
                    select format(' collate %I.%I', n.nspname, l.collname)
                    from pg_collation as l
                    join pg_namespace as n on n.oid = l.collnamespace
                    where l.oid = a.attcollation and t.is_looked_at
                )
            ),
            ', ' order by k.position
        ),
        jsonb_agg(
            jsonb_build_object(
                'name', k.name,
                'pattern', sqlkit._surely_valid(a.atttypid, a.atttypmod),
                'is_text', a.attname is null
                or a.atttypid in ('pg_catalog.text'::regtype, 'pg_catalog.varchar'::regtype, 'pg_catalog.bpchar'::regtype),
                'max_length', case
                    when a.atttypid in ('pg_catalog.varchar'::regtype, 'pg_catalog.bpchar'::regtype)
                        and a.atttypmod > 4
                        then a.atttypmod - 4
                end,
                'may_be_null', a.attname is null
                or not a.attnotnull
                or (p_policy = 'fill' and a.attname <> all (p_key))
            )
            order by k.position
        )
    into v_loaded, v_types, v_columns
    from unnest(p_columns) with ordinality as k (name, position)
    left join pg_attribute as a
        on
            a.attrelid = p_target
            and a.attname = k.name
            and a.attnum > 0
            and not a.attisdropped
            and k.name <> all (p_left_out)
    cross join lateral (
        select exists (
            select
            from pg_constraint as c
            where c.conrelid = p_target and c.contype in ('c', 'f') and c.conkey && array[a.attnum, 0::smallint]
        )
    ) as t (is_looked_at);
    select
        string_agg(
            format(
                ' union all select s.sqlkit_first_line, %L, %L, %L from pg_temp.sqlkit_text as s '
                'where s.sqlkit_sqlstate is null and %s',
                c.column_name, c.error_code, c.message, c.condition
            ),
            '' order by c.ordinality
        ) filter (where c.error_code = '23502'),
        string_agg(
            -- A subquery for each row, as in the condition, would cost more than COPY does.
            format('when not coalesce((%s), true) then %s', c.expression, c.ordinality),
            ' ' order by c.ordinality
        ) filter (where c.error_code = '23514'),
        string_agg(
            format(
                'select s.ctid as place, %s as broken from %%1$s as s where %%2$s and %s',
                c.ordinality,
                -- It is formatted once more.
                replace(c.condition, '%', '%%')
            ),
            ' union all ' order by c.ordinality
        ) filter (where c.error_code = '23503' and c.is_of_one_row),
        jsonb_object_agg(c.ordinality, jsonb_build_array(c.column_name, c.error_code, c.message))
            filter (where c.error_code <> '23502' and c.is_of_one_row)
    into v_nulls, v_checks, v_references, v_constraints
    from sqlkit._constraint_checks(p_target, v_loaded, p_policy, p_key) with ordinality as c;
    return jsonb_build_object(
        'columns', v_columns,
        'text_columns', sqlkit._column_list(p_columns, '%I text'),
        'typed_columns', v_types,
        'input', sqlkit._input_errors('pg_temp.sqlkit_text', p_target, v_loaded) || coalesce(v_nulls, ''),
        'name', (select c.relname from pg_class as c where c.oid = p_target),
        'checks', v_checks,
        'references', v_references,
        'constraints', v_constraints
    );
end;
$plan_screen$;

comment on function sqlkit.plan_screen(regclass, name[], name[], text, name[]) is
'What it takes to screen pieces for a target, for screen_text() and screen_rows(), and for the client: for each
column a pattern that only valid values match (null: there is none), whether any text is valid (is_text), up to how
many characters (max_length), and whether it may be null. p_left_out are columns of the source that go nowhere.
Raises: SK201 no table.';


create or replace function sqlkit.begin_screen(p_plan jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $begin_screen$
begin
    if to_regclass('pg_temp.sqlkit_text') is not null then
        truncate table pg_temp.sqlkit_text, pg_temp.sqlkit_typed;
        return;
    end if;
    execute format(
        'create temporary table sqlkit_text ('
        'sqlkit_first_line bigint, sqlkit_last_line bigint, sqlkit_raw text, sqlkit_sqlstate text, '
        'sqlkit_message text, %s, sqlkit_lines int8range) on commit drop',
        p_plan ->> 'text_columns'
    );
    execute format('create temporary table sqlkit_typed (%s) on commit drop', p_plan ->> 'typed_columns');
end;
$begin_screen$;

comment on function sqlkit.begin_screen(jsonb) is
'Makes room for the next piece, until the transaction ends: pg_temp.sqlkit_text takes the records in doubt, as a
text stage does, for screen_text(); pg_temp.sqlkit_typed takes rows for screen_rows().';


create or replace function sqlkit.screen_text(p_plan jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $screen_text$
declare
    v_bad jsonb;
begin
    execute format(
        'select jsonb_agg(jsonb_build_array('
        'r.first_line, r.last_line, r.raw, r.column_name, r.sqlstate, r.message, r.record) order by r.line) '
        'from (select distinct on (e.line) e.*, s.sqlkit_raw as raw, %s from (%s) as e '
        'join pg_temp.sqlkit_text as s on s.sqlkit_first_line = e.line order by e.line) as r',
        sqlkit._record_place(),
        p_plan ->> 'input'
    )
    into v_bad;
    return coalesce(v_bad, '[]');
end;
$screen_text$;

comment on function sqlkit.screen_text(jsonb) is
'The rows of pg_temp.sqlkit_text that are malformed, whose values are none of their columns, or that lack a value
they need: a list of lists of first line, last line, raw text, column, SQLSTATE, message, and number of the record
where it is not known by its lines. The others are sound, as far as their values can tell.';


create or replace function sqlkit._broken_rows(p_plan jsonb, p_relation regclass, p_after tid)
returns table (number bigint, place tid, reason jsonb)
language plpgsql
set search_path = pg_catalog, pg_temp
-- Rows are numbered as they stand.
set max_parallel_workers_per_gather = 0
set synchronize_seqscans = off
as $broken_rows$
declare
    v_from text := format('ctid > %L::tid', coalesce(p_after, '(0,0)'));
    v_queries text[];
begin
    if p_plan ->> 'checks' is not null then
        v_queries := v_queries || format(
            'select r.number, r.place, r.broken from ('
            'select row_number() over () as number, %1$I.ctid as place, case %2$s else 0 end as broken '
            'from %3$s as %1$I where %4$s) as r where r.broken > 0',
            p_plan ->> 'name', p_plan ->> 'checks', p_relation, v_from
        );
    end if;
    if p_plan ->> 'references' is not null then
        v_queries := v_queries || format(
            'select n.number, n.place, e.broken from (%s) as e join ('
            'select row_number() over () as number, s.ctid as place from %s as s where %s) as n '
            'on n.place = e.place',
            format(p_plan ->> 'references', p_relation, v_from), p_relation, v_from
        );
    end if;
    if v_queries is null then
        return;
    end if;
    for number, place, reason in execute format(
        'select distinct on (b.number) b.number, b.place, $1 -> b.broken::text '
        'from (%s) as b order by b.number, b.broken',
        array_to_string(v_queries, ' union all ')
    )
    using p_plan -> 'constraints'
    loop
        return next;
    end loop;
end;
$broken_rows$;

comment on function sqlkit._broken_rows(jsonb, regclass, tid) is
'The rows of a relation, those behind a place where one is given, that break a CHECK or foreign key constraint of
the target of a plan: their numbers from 1, places, and column, SQLSTATE and message of the first constraint.';


create or replace function sqlkit.screen_rows(p_plan jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $screen_rows$
begin
    return (
        select coalesce(jsonb_agg(jsonb_build_array(b.number) || b.reason order by b.number), '[]')
        from sqlkit._broken_rows(p_plan, 'pg_temp.sqlkit_typed', null) as b
    );
end;
$screen_rows$;

comment on function sqlkit.screen_rows(jsonb) is
'The rows of pg_temp.sqlkit_typed that break a CHECK or foreign key constraint: a list of lists of number (from 1),
column, SQLSTATE and message. A row is judged by itself and by the tables that it refers to.';


create or replace function sqlkit.screen_stage(p_plan jsonb, p_stage regclass, p_after tid default null)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $screen_stage$
declare
    v_last tid;
    v_places tid[];
    v_broken jsonb;
begin
    execute format('select max(s.ctid) from %s as s where s.ctid > $1', p_stage)
    into v_last
    using coalesce(p_after, '(0,0)');
    select
        jsonb_agg(jsonb_build_array(b.number) || b.reason order by b.number),
        array_agg(b.place)
    into v_broken, v_places
    from sqlkit._broken_rows(p_plan, p_stage, p_after) as b;
    if v_places is not null then
        execute format('delete from %s as s where s.ctid = any ($1)', p_stage) using v_places;
    end if;
    return jsonb_build_object('last', coalesce(v_last, p_after), 'broken', coalesce(v_broken, '[]'));
end;
$screen_stage$;

comment on function sqlkit.screen_stage(jsonb, regclass, tid) is
'Takes from a stage the rows that break a CHECK or foreign key constraint of its target, and tells which these were:
in "broken" as screen_rows() does, numbered among the rows behind p_after; "last" is the place of the last row, to be
given with the next call when more rows have been copied. Writes: the stage.';


create or replace function sqlkit.check_reject_limit(
    p_run_id bigint,
    p_rows_read bigint,
    p_rows_rejected bigint,
    p_limit bigint,
    p_share double precision
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $check_reject_limit$
begin
    if p_rows_rejected > 0
        and sqlkit._is_limit_passed(p_run_id, p_rows_read, p_rows_rejected, p_limit, p_share) then
        raise exception using
            errcode = 'SK301',
            message = 'more rows were refused than the limit allows',
            detail = format('Of the batch: %s of %s rows.', p_rows_rejected, p_rows_read),
            hint = 'Mend the input, or raise the limit: --reject-limit.';
    end if;
end;
$check_reject_limit$;

comment on function sqlkit.check_reject_limit(bigint, bigint, bigint, bigint, double precision) is
'Raises SK301 if a run would have more rejects than p_limit (null: any number), or than p_share of the rows read,
with those of a batch that is not recorded yet.';


create or replace function sqlkit.keep_rejects(
    p_run_id bigint,
    p_source_id bigint,
    p_start_offset bigint,
    p_rejects jsonb
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $keep_rejects$
begin
    -- What an earlier run was only told of is said anew.
    delete from sqlkit.reject as r
    where r.source_id = p_source_id and r.batch_id is null;
    insert into sqlkit.reject (
        run_id, batch_id, source_id, first_line, last_line, raw, column_name, sqlstate, message, record
    )
    select
        p_run_id,
        b.batch_id,
        p_source_id,
        (r.reject ->> 0)::bigint,
        (r.reject ->> 1)::bigint,
        r.reject ->> 2,
        r.reject ->> 3,
        r.reject ->> 4,
        r.reject ->> 5,
        (r.reject ->> 6)::bigint
    from sqlkit.batch as b
    cross join jsonb_array_elements(p_rejects) with ordinality as r (reject, position)
    where b.source_id = p_source_id and b.start_offset = p_start_offset
    order by r.position;
end;
$keep_rejects$;

comment on function sqlkit.keep_rejects(bigint, bigint, bigint, jsonb) is
'Records rows that were kept away from a recorded batch, known by its source and where it starts: a list of lists of
first line, last line, raw text, column, SQLSTATE, message and, where it is not known by its lines, number of the
record. Writes: sqlkit.reject.';

create or replace function sqlkit.characters_of(p_encoding text default getdatabaseencoding())
returns integer[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $characters_of$
declare
    v_found integer[] := array[]::integer[];
    v_utf8 bigint;
    v_bytes integer;
begin
    -- Beyond the third plane no encoding but Unicode's own has any.
    for r_point in 128 .. 196607 loop
        continue when r_point between 55296 and 57343; -- halves of UTF-16
        v_bytes := case when r_point < 2048 then 2 when r_point < 65536 then 3 else 4 end;
        v_utf8 := 128 + (r_point & 63) + ((128 + (r_point >> 6 & 63))::bigint << 8);
        v_utf8 := case v_bytes
            when 2 then v_utf8 + (64 << 8)
            when 3 then v_utf8 + ((224 + (r_point >> 12))::bigint << 16)
            else v_utf8 + ((128 + (r_point >> 12 & 63))::bigint << 16) + ((240 + (r_point >> 18))::bigint << 24)
        end;
        -- There is no asking but by trying.
        begin
            perform convert(substring(int8send(v_utf8) from 9 - v_bytes), 'UTF8', p_encoding);
            v_found := v_found || r_point;
        exception
            when untranslatable_character then
                null;
        end;
    end loop;
    return v_found;
end;
$characters_of$;

comment on function sqlkit.characters_of(text) is
'The characters of Unicode, ASCII left out, that PostgreSQL converts to an encoding, the database''s own by
default, in ascending order. It takes a second: for encodings of which nobody else has the same notion.
Writes: nothing. Locks: none. Raises: 22023 for no encoding, 42883 for one to which UTF-8 is never converted.';
