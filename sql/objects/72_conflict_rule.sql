-- The rules: made, replaced, found, dropped. What could not be detected is refused here.

create or replace function sqlkit._refuse_columns(p_relation regclass, p_columns name[])
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $refuse_columns$
declare
    v_missing text;
begin
    select string_agg(quote_ident(k.name), ', ' order by k.position)
    into v_missing
    from unnest(p_columns) with ordinality as k (name, position)
    where k.name is not null and sqlkit._type_of(p_relation, k.name) is null;
    if v_missing is not null then
        raise exception using
            errcode = 'SK204',
            message = format('columns that are not there: %s', v_missing),
            detail = format('Table: %s.', sqlkit._table_name(p_relation)),
            hint = format(
                'It has %s.',
                (
                    select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
                    from pg_attribute as a
                    where a.attrelid = p_relation and a.attnum > 0 and not a.attisdropped
                )
            );
    end if;
end;
$refuse_columns$;

comment on function sqlkit._refuse_columns(regclass, name[]) is
'Raises SK204 for columns that a relation does not have.';


create or replace function sqlkit._rule_key(p_target regclass)
returns name[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $rule_key$
declare
    v_key name[];
begin
    select k.columns
    into v_key
    from sqlkit._unique_keys(p_target) as k
    where k.is_primary;
    if not found then
        raise exception using
            errcode = 'SK202',
            message = 'the rule needs a key and the table has none',
            detail = format('Table: %s.', sqlkit._table_name(p_target)),
            hint = 'Name the columns by which a row is known: p_key.';
    end if;
    return v_key;
end;
$rule_key$;

comment on function sqlkit._rule_key(regclass) is
'The primary key of a table. Raises SK202 if there is none: of a view, say.';


create or replace function sqlkit._define_rule(
    p_name text,
    p_kind text,
    p_target regclass,
    p_other regclass,
    p_key name[],
    p_definition jsonb,
    p_changed_by name
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $define_rule$
declare
    v_rule sqlkit.conflict_rule;
    v_key name[] := coalesce(p_key, sqlkit._rule_key(p_target));
begin
    perform sqlkit._refuse_columns(p_target, v_key || p_changed_by);
    insert into sqlkit.conflict_rule as r (
        name, kind, target, other, key_columns, definition, changed_by
    )
    values (
        p_name, p_kind, sqlkit._table_name(p_target), sqlkit._table_name(p_other), v_key,
        jsonb_strip_nulls(p_definition), p_changed_by
    )
    on conflict (name) do update
    set
        kind = excluded.kind,
        target = excluded.target,
        other = excluded.other,
        key_columns = excluded.key_columns,
        definition = excluded.definition,
        changed_by = excluded.changed_by,
        -- A rule that says something else has to look at everything again.
        mark = case
            when
                (r.kind, r.target, r.other, r.key_columns, r.definition, r.changed_by)
                is not distinct from (
                    excluded.kind, excluded.target, excluded.other, excluded.key_columns, excluded.definition,
                    excluded.changed_by
                )
                then r.mark
        end
    returning r.* into v_rule;
    -- What PostgreSQL would not run is refused now, and not in the night.
    execute 'explain ' || sqlkit._find_conflicts(v_rule);
    return v_rule.conflict_rule_id;
exception
    when syntax_error_or_access_rule_violation or data_exception or wrong_object_type then
        raise exception using
            errcode = 'SK801',
            message = format('rule %s cannot be detected: %s', p_name, sqlerrm),
            detail = format('Table: %s; definition: %s.', sqlkit._table_name(p_target), p_definition),
            hint = 'The columns have to be of types that can be sorted and subtracted; see docs/conflicts.md.';
end;
$define_rule$;

comment on function sqlkit._define_rule(text, text, regclass, regclass, name[], jsonb, name) is
'Stores a rule, or what is new about it, and returns its id.
Writes: sqlkit.conflict_rule. Raises: SK202 no key, SK204 no such column, SK801 if it cannot work.';


create or replace function sqlkit._check_interval(
    p_target regclass,
    p_resource name[],
    p_starts name,
    p_ends name,
    p_range name,
    p_nulls text,
    p_bounds text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $check_interval$
declare
    v_wrong text;
begin
    perform sqlkit._refuse_columns(p_target, p_resource || p_starts || p_ends || p_range);
    v_wrong := case
        when coalesce(cardinality(p_resource), 0) = 0 then 'a resource is needed'
        when (p_range is null) = (p_starts is null) or (p_starts is null) <> (p_ends is null)
            then 'either p_starts and p_ends are needed, or p_range'
        when p_range is not null and not exists (
            select
            from pg_range as r
            where r.rngtypid = sqlkit._type_of(p_target, p_range)
        ) then format('column %I is no range', p_range)
        when p_nulls is null or p_nulls not in ('unbounded', 'unknown') then 'p_nulls is unbounded or unknown'
        when p_bounds is null or p_bounds not in ('[)', '[]', '(]', '()') then 'p_bounds is [), [], (] or ()'
    end;
    if v_wrong is not null then
        raise exception using
            errcode = 'SK801',
            message = format('the rule cannot be detected: %s', v_wrong),
            detail = format('Table: %s.', sqlkit._table_name(p_target)),
            hint = 'Mend the call; see docs/conflicts.md.';
    end if;
end;
$check_interval$;

comment on function sqlkit._check_interval(regclass, name[], name, name, name, text, text) is
'Raises SK204 for columns that are not there, SK801 for intervals that make no sense.';


create or replace function sqlkit.define_overlap(
    p_name text,
    p_target regclass,
    p_resource name[],
    p_starts name default null,
    p_ends name default null,
    p_range name default null,
    p_bounds text default '[)',
    p_nulls text default 'unbounded',
    p_exempt name[] default '{}',
    p_across name[] default '{}',
    p_key name[] default null,
    p_changed_by name default null
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $define_overlap$
begin
    perform sqlkit._check_interval(p_target, p_resource, p_starts, p_ends, p_range, p_nulls, p_bounds);
    perform sqlkit._refuse_columns(p_target, p_exempt || p_across);
    return sqlkit._define_rule(
        p_name, 'overlap', p_target, null, p_key,
        jsonb_build_object(
            'resource', p_resource, 'starts', p_starts, 'ends', p_ends, 'range', p_range,
            'bounds', case when p_range is null then p_bounds end,
            'nulls', case when p_range is null then p_nulls end,
            'exempt', p_exempt, 'across', p_across
        ),
        p_changed_by
    );
end;
$define_overlap$;

comment on function sqlkit.define_overlap(
    text, regclass, name[], name, name, name, text, text, name[], name[], name[], name
) is
'A rule: no two rows of one resource may overlap. The interval is in two columns, with bounds as said and nulls that
mean unbounded (or unknown: such rows are no intervals), or in one range. Intervals that hold nothing overlap nothing,
and neither do rows whose resource has a null. Rows that are alike in all columns of p_exempt, nulls being alike to
nothing, may overlap; with p_across only rows that differ in each of these columns may not.
The key is the primary key unless named; a view needs one named. Defining a name again replaces the rule, and keeps
its conflicts. Returns its id.
Writes: sqlkit.conflict_rule. Raises: SK202 no key, SK204 no such column, SK801 if it cannot work.';


create or replace function sqlkit.define_distance(
    p_name text,
    p_target regclass,
    p_resource name[],
    p_gap text,
    p_starts name default null,
    p_ends name default null,
    p_range name default null,
    p_travel regprocedure default null,
    p_place name[] default '{}',
    p_exempt name[] default '{}',
    p_across name[] default '{}',
    p_key name[] default null,
    p_changed_by name default null
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $define_distance$
begin
    perform sqlkit._check_interval(p_target, p_resource, p_starts, p_ends, p_range, 'unknown', '[)');
    perform sqlkit._refuse_columns(p_target, p_place || p_exempt || p_across);
    if p_gap is null then
        raise exception using
            errcode = 'SK801',
            message = 'the rule cannot be detected: a gap is needed',
            detail = format('Table: %s.', sqlkit._table_name(p_target)),
            hint = 'Mend the call; see docs/conflicts.md.';
    end if;
    return sqlkit._define_rule(
        p_name, 'distance', p_target, null, p_key,
        jsonb_build_object(
            'resource', p_resource, 'starts', p_starts, 'ends', p_ends, 'range', p_range, 'nulls', 'unknown',
            'gap', p_gap,
            'travel', (
                select format('%I.%I', n.nspname, p.proname)
                from pg_proc as p
                join pg_namespace as n on n.oid = p.pronamespace
                where p.oid = p_travel
            ),
            'place', p_place, 'exempt', p_exempt, 'across', p_across
        ),
        p_changed_by
    );
end;
$define_distance$;

comment on function sqlkit.define_distance(
    text, regclass, name[], text, name, name, name, regprocedure, name[], name[], name[], name[], name
) is
'A rule: between two rows of one resource that do not overlap there has to be a gap of at least p_gap: an interval
for times, days for dates, else a number. With p_travel, a function of the places of both rows (p_place of the earlier,
p_place of the later), as much as it returns, null being nothing; p_gap is then the most that it is asked about: rows
further apart are never too close. Rows without a beginning or an end are left out. The rest is as for an overlap.
Writes: sqlkit.conflict_rule. Raises: SK202 no key, SK204 no such column, SK801 if it cannot work.';


create or replace function sqlkit.define_duplicate(
    p_name text,
    p_target regclass,
    p_columns name[],
    p_normalised name[] default '{}',
    p_key name[] default null,
    p_changed_by name default null
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $define_duplicate$
declare
    -- One that is compared normalised is not compared as it is, too.
    v_columns name[] := array(
        select c.name
        from unnest(p_columns) with ordinality as c (name, position)
        where c.name <> all (p_normalised)
        order by c.position
    ) || p_normalised;
begin
    perform sqlkit._refuse_columns(p_target, v_columns);
    return sqlkit._define_rule(
        p_name, 'duplicate', p_target, null, p_key,
        jsonb_build_object('resource', v_columns, 'normalised', p_normalised),
        p_changed_by
    );
end;
$define_duplicate$;

comment on function sqlkit.define_duplicate(text, regclass, name[], name[], name[], name) is
'A rule: no two rows may be alike in all columns of p_columns and p_normalised; the latter are compared without regard
to case, to spaces at the ends and to how many there are between words. A null is alike to nothing. Each further row
is a conflict with the first one, by key.
Writes: sqlkit.conflict_rule. Raises: SK202 no key, SK204 no such column, SK801 if it cannot work.';


create or replace function sqlkit.define_disagreement(
    p_name text,
    p_target regclass,
    p_other regclass,
    p_columns name[] default null,
    p_missing boolean default true,
    p_key name[] default null
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $define_disagreement$
declare
    v_key name[] := coalesce(p_key, sqlkit._rule_key(p_target));
    v_columns name[] := coalesce(
        p_columns,
        (
            select array_agg(a.attname order by a.attnum)
            from pg_attribute as a
            where
                a.attrelid = p_target
                and a.attnum > 0
                and not a.attisdropped
                and a.attname <> all (v_key)
                and sqlkit._type_of(p_other, a.attname) is not null
        )
    );
begin
    perform sqlkit._refuse_columns(p_target, v_columns);
    perform sqlkit._refuse_columns(p_other, v_columns || v_key);
    return sqlkit._define_rule(
        p_name, 'disagree', p_target, p_other, v_key,
        jsonb_build_object('resource', v_key, 'columns', v_columns, 'missing', p_missing),
        null
    );
end;
$define_disagreement$;

comment on function sqlkit.define_disagreement(text, regclass, regclass, name[], boolean, name[]) is
'A rule: two tables say the same, in the columns named (all that both have, if none are), of the rows with one key.
With p_missing, a row that only one of them has is a conflict too.
Writes: sqlkit.conflict_rule. Raises: SK202 no key, SK204 no such column, SK801 if it cannot work.';


create or replace function sqlkit._find_rule(p_rule text)
returns sqlkit.conflict_rule
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $find_rule$
declare
    v_rule sqlkit.conflict_rule;
begin
    select r.*
    into v_rule
    from sqlkit.conflict_rule as r
    where r.name = p_rule;
    if not found then
        raise exception using
            errcode = 'SK802',
            message = format('there is no conflict rule %s', p_rule),
            detail = format(
                'Rules: %s.', coalesce((select string_agg(r.name, ', ' order by r.name) from sqlkit.conflict_rule as r), '-')
            ),
            hint = 'Make one with sqlkit.define_overlap() or its sisters.';
    end if;
    return v_rule;
end;
$find_rule$;

comment on function sqlkit._find_rule(text) is 'The rule of a name. Raises SK802 if there is none.';


create or replace function sqlkit._drop_conflicts()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $drop_conflicts$
begin
    delete from sqlkit.conflict
    where conflict_rule_id = old.conflict_rule_id;
    return null;
end;
$drop_conflicts$;

comment on function sqlkit._drop_conflicts() is
'The trigger that has a rule take its conflicts along, as a foreign key would. Runs with its owner''s rights: who drops
a rule may not delete single conflicts. Writes: sqlkit.conflict, sqlkit.conflict_event.';


create or replace trigger conflict_rule_drop after delete on sqlkit.conflict_rule
for each row execute function sqlkit._drop_conflicts();


create or replace function sqlkit.drop_rule(p_rule text)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $drop_rule$
declare
    v_rule sqlkit.conflict_rule := sqlkit._find_rule(p_rule);
    v_conflicts bigint;
begin
    select count(*)
    into v_conflicts
    from sqlkit.conflict as c
    where c.conflict_rule_id = v_rule.conflict_rule_id;
    delete from sqlkit.conflict_rule
    where conflict_rule_id = v_rule.conflict_rule_id;
    return v_conflicts;
end;
$drop_rule$;

comment on function sqlkit.drop_rule(text) is
'Removes a rule with all its conflicts and their history; returns how many conflicts those were.
Writes: sqlkit.conflict_rule, sqlkit.conflict, sqlkit.conflict_event. Raises: SK802 if there is no such rule.';
