-- Detection: what was touched is looked at, what is found is compared with what is known.

create or replace function sqlkit._digest_of(p_rule sqlkit.conflict_rule)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $digest_of$
begin
    return md5(
        jsonb_build_array(
            p_rule.kind, p_rule.target, p_rule.other, p_rule.key_columns, p_rule.definition, p_rule.changed_by
        )::text
    );
end;
$digest_of$;

comment on function sqlkit._digest_of(sqlkit.conflict_rule) is
'The same for rules that say the same.';


create or replace function sqlkit._relations_of(p_relation regclass)
returns bigint[]
language sql
stable
return (
    with recursive part as (
        select p_relation::oid as id
        where p_relation is not null
        union
        select i.inhrelid
        from part as p
        join pg_inherits as i on i.inhparent = p.id
    )

    select array_agg(p.id::bigint order by p.id)
    from part as p
);

comment on function sqlkit._relations_of(regclass) is
'A relation with its partitions and the tables that inherit from it, by their oids.';


create or replace function sqlkit._mark_of(p_rule sqlkit.conflict_rule)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $mark_of$
declare
    v_target regclass := p_rule.target::regclass;
    v_mark jsonb := jsonb_build_object('rule', sqlkit._digest_of(p_rule));
    v_watermark text;
begin
    if p_rule.changed_by is null then
        -- Whatever is written by transactions from this number on was not there, or may not have been. It is a
        -- number of this server: another one that the database is restored to knows nothing of it.
        return v_mark || jsonb_build_object(
            'horizon', pg_snapshot_xmin(pg_current_snapshot())::text,
            'relations', sqlkit._relations_of(v_target) || sqlkit._relations_of(p_rule.other::regclass),
            'server', (select c.system_identifier::text from pg_control_system() as c)
        );
    end if;
    if sqlkit._type_of(v_target, p_rule.changed_by) = 'boolean'::regtype then
        return v_mark;
    end if;
    -- From the last mark on, so that a foreign server sends no more than what has changed.
    execute format(
        'select coalesce(max(t.%1$I)::text, %3$L) from %2$s as t%4$s',
        p_rule.changed_by,
        v_target,
        p_rule.mark ->> 'watermark',
        case
            when p_rule.mark ->> 'watermark' is not null
                then format(' where t.%I >= %L', p_rule.changed_by, p_rule.mark ->> 'watermark')
        end
    )
    into v_watermark;
    return v_mark || jsonb_build_object('watermark', v_watermark);
end;
$mark_of$;

comment on function sqlkit._mark_of(sqlkit.conflict_rule) is
'How far a detection of a rule that begins now will have come.';


create or replace function sqlkit.mark_detection(p_rule text)
returns jsonb
language sql
return sqlkit._mark_of(sqlkit._find_rule(p_rule));

comment on function sqlkit.mark_detection(text) is
'How far a detection that begins now will have come, for finish_detection(). Only a detection in parts needs it.
Raises: SK802 if there is no such rule.';


create or replace function sqlkit.finish_detection(p_rule text, p_mark jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $finish_detection$
declare
    v_rule sqlkit.conflict_rule := sqlkit._find_rule(p_rule);
begin
    update sqlkit.conflict_rule
    set
        mark = p_mark,
        detected_at = clock_timestamp()
    where
        conflict_rule_id = v_rule.conflict_rule_id
        -- What was found is not what a rule finds that was defined anew meanwhile.
        and coalesce(p_mark ->> 'rule', sqlkit._digest_of(conflict_rule)) = sqlkit._digest_of(conflict_rule);
end;
$finish_detection$;

comment on function sqlkit.finish_detection(text, jsonb) is
'Records that all parts of a detection are done that began with mark_detection(): the next one looks only at what has
changed since, and at everything if the rule was defined anew meanwhile. Writes: sqlkit.conflict_rule. Raises: SK802 if there is no such rule.';


create or replace function sqlkit._changed_since(p_rule sqlkit.conflict_rule, p_relation regclass)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $changed_since$
declare
    v_horizon xid8 := (p_rule.mark ->> 'horizon')::xid8;
    v_new bigint[];
begin
    if p_rule.mark is null then
        return null;
    end if;
    if p_rule.changed_by is not null then
        if sqlkit._type_of(p_relation, p_rule.changed_by) = 'boolean'::regtype then
            return format('t.%I', p_rule.changed_by);
        end if;
        -- The last value may have been given to rows that came later.
        return format(
            '(t.%1$I is null or t.%1$I >= %2$L)', p_rule.changed_by, p_rule.mark ->> 'watermark'
        );
    end if;
    -- Rows bear the lower half of the number: what is half a turn old cannot be told from what is to come.
    if
        not sqlkit._tells_changes(p_relation)
        or p_rule.mark ->> 'server' is distinct from (select c.system_identifier::text from pg_control_system() as c)
        or pg_snapshot_xmax(pg_current_snapshot())::text::bigint - v_horizon::text::bigint > 1000000000
    then
        return null;
    end if;
    -- What was attached since, or has taken the place of another table, may have been written long before.
    v_new := array(
        select r.id
        from unnest(sqlkit._relations_of(p_relation)) as r (id)
        where (p_rule.mark -> 'relations' @> to_jsonb(r.id)) is not true
    );
    return format(
        case when v_new = '{}' then 'age(t.xmin) <= %s' else '(age(t.xmin) <= %s or t.tableoid = any (%L::oid[]))' end,
        age(v_horizon::xid), v_new
    );
end;
$changed_since$;

comment on function sqlkit._changed_since(sqlkit.conflict_rule, regclass) is
'The condition under which a row t may have been written after the last detection; null if that cannot be told.';


create or replace function sqlkit._typed_list(p_relation regclass, p_columns jsonb, p_as_text jsonb default '[]')
returns text
language sql
stable
return (
    select string_agg(
        format(
            '%I %s',
            k.name,
            case when p_as_text ? k.name then 'text' else format_type(a.atttypid, a.atttypmod) end
        ),
        ', '
        order by k.position
    )
    from jsonb_array_elements_text(p_columns) with ordinality as k (name, position)
    join pg_attribute as a on a.attrelid = p_relation and a.attname = k.name::name
);

comment on function sqlkit._typed_list(regclass, jsonb, jsonb) is
'Columns of a relation with their types, as jsonb_to_record() wants them; those of p_as_text as text.';


create or replace function sqlkit._tells_touched(p_rule sqlkit.conflict_rule)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $tells_touched$
begin
    return (
        sqlkit._changed_since(p_rule, p_rule.target::regclass) is not null
        and (p_rule.other is null or sqlkit._changed_since(p_rule, p_rule.other::regclass) is not null)
        -- A row that was deleted bears no number: its counterpart, alone now, looks as it did.
        and (p_rule.definition ->> 'missing')::boolean is not true
    );
end;
$tells_touched$;

comment on function sqlkit._tells_touched(sqlkit.conflict_rule) is
'Whether it can be told which resources of a rule were touched since its last detection.';


create or replace function sqlkit._find_touched(p_rule sqlkit.conflict_rule)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $find_touched$
declare
    v_target regclass := p_rule.target::regclass;
    v_key jsonb := to_jsonb(p_rule.key_columns);
    v_resource jsonb := p_rule.definition -> 'resource';
    v_columns text := sqlkit._numbered_list(v_key, 't.%1$I as k%2$s') || ', '
        || sqlkit._numbered_list(to_jsonb(sqlkit._compared(p_rule.definition)), '%1$s as r%2$s');
    v_since text := sqlkit._changed_since(p_rule, v_target);
    v_since_other text := case when p_rule.other is not null then sqlkit._changed_since(p_rule, p_rule.other) end;
    v_is_flag boolean := p_rule.changed_by is not null
        and sqlkit._type_of(v_target, p_rule.changed_by) = 'boolean'::regtype;
begin
    if not sqlkit._tells_touched(p_rule) then
        return false;
    end if;
    execute format(
        'create temporary table sqlkit_changed on commit drop as select %s, true as is_changed from %s as t where %s%s',
        v_columns,
        p_rule.target,
        case when v_is_flag then 'false' else v_since end,
        case
            when p_rule.other is not null
                then format(
                    ' union select %s, true from %s as t where %s', v_columns, p_rule.other, v_since_other
                )
        end
    );
    if v_is_flag then
        -- In one statement, so that a flag that is raised meanwhile stays up for the next time.
        execute format(
            'with t as (update %s as t set %I = false where t.%2$I returning t.*) '
            'insert into pg_temp.sqlkit_changed select %s, true from t',
            p_rule.target, p_rule.changed_by, v_columns
        );
    end if;
    analyze pg_temp.sqlkit_changed;
    -- Besides the resources of these rows: those that their conflicts were found for, which they may have left, and
    -- those of conflicts of which a row is no more.
    execute format(
        $query$
        create temporary table sqlkit_touched on commit drop as
        select distinct s.*, jsonb_build_object(%1$s) as resource
        from (
            select %2$s from pg_temp.sqlkit_changed as s
            union all
            select %3$s
            from sqlkit.conflict as c
            cross join lateral (values (c.first_key), (c.second_key)) as v (key)
            cross join lateral jsonb_to_record(v.key) as w (%4$s)
            cross join lateral jsonb_to_record(c.resource) as q (%5$s)
            left join (select t.* from %6$s as t where %13$s) as t on %7$s%8$s
            left join pg_temp.sqlkit_changed as s on %12$s
            where
                c.conflict_rule_id = %9$s
                and c.gone_at is null
                and (t.%10$I is null%11$s or s.is_changed)
        ) as s
        $query$,
        sqlkit._numbered_list(v_resource, '%1$L::text, s.r%2$s'),
        sqlkit._numbered_list(v_resource, 's.r%2$s'),
        sqlkit._numbered_list(v_resource, 'q.%1$I'),
        sqlkit._typed_list(v_target, v_key),
        sqlkit._typed_list(v_target, v_resource, p_rule.definition -> 'normalised'),
        p_rule.target,
        sqlkit._equal_list(v_target, v_key, 't.%1$I', 'w.%1$I'),
        case
            when p_rule.other is not null
                then format(
                    ' left join %s as o on %s',
                    p_rule.other, sqlkit._equal_list(v_target, v_key, 'o.%1$I', 'w.%1$I')
                )
        end,
        p_rule.conflict_rule_id,
        p_rule.key_columns[1],
        case when p_rule.other is not null then format(' or o.%I is null', p_rule.key_columns[1]) end,
        sqlkit._equal_list(v_target, v_key, 's.k%2$s', 'w.%1$I'),
        case
            when sqlkit._tells_changes(v_target) then 'true'
            else (
                select string_agg(
                    sqlkit._constant_values(
                        format(
                            'select distinct w.%I from sqlkit.conflict as c '
                            'cross join lateral (values (c.first_key), (c.second_key)) as v (key) '
                            'cross join lateral jsonb_to_record(v.key) as w (%s) '
                            'where c.conflict_rule_id = %s and c.gone_at is null',
                            k.name, sqlkit._typed_list(v_target, v_key), p_rule.conflict_rule_id
                        ),
                        v_target, k.name, 100000
                    ),
                    ' and '
                )
                from unnest(p_rule.key_columns) as k (name)
            )
        end
    );
    drop table pg_temp.sqlkit_changed;
    analyze pg_temp.sqlkit_touched;
    return true;
end;
$find_touched$;

comment on function sqlkit._find_touched(sqlkit.conflict_rule) is
'Puts the resources that were touched since the last detection into pg_temp.sqlkit_touched; returns false, and makes
nothing, if that cannot be told. Writes: the flags of the target, where the rule goes by a flag.';


create or replace function sqlkit._touched_constants(p_rule sqlkit.conflict_rule)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $touched_constants$
declare
    v_target regclass := p_rule.target::regclass;
begin
    if sqlkit._tells_changes(v_target) then
        return '';
    end if;
    return (
        select coalesce(
            string_agg(
                ' and ' || sqlkit._constant_values(
                    format('select distinct w.r%s from pg_temp.sqlkit_touched as w', k.position),
                    v_target, k.name::name, 100000
                ),
                ''
            ),
            ''
        )
        from jsonb_array_elements_text(p_rule.definition -> 'resource') with ordinality as k (name, position)
        where not coalesce(p_rule.definition -> 'normalised', '[]') ? k.name
    );
end;
$touched_constants$;

comment on function sqlkit._touched_constants(sqlkit.conflict_rule) is
'Conditions, each after " and ", that name the resources of pg_temp.sqlkit_touched as constants, where rows come from
elsewhere: through a view or from a foreign table.';


create or replace function sqlkit._hash_of(
    p_target regclass, p_other regclass, p_definition jsonb, p_expressions text[]
)
returns text
language sql
stable
return (
    select coalesce(
        -- By a seed of its own each, so that columns with the same value do not cancel each other out.
        string_agg(
            format(
                case
                    when h.function_name is null then 'hash_record_extended(row(%2$s), %3$s)'
                    else 'coalesce(%1$s(%2$s, %3$s), 0)'
                end,
                h.function_name, p_expressions[k.position], k.position
            ),
            ' # ' order by k.position
        ),
        '0'
    )
    from jsonb_array_elements_text(p_definition -> 'resource') with ordinality as k (name, position)
    join pg_attribute as a on a.attrelid = p_target and a.attname = k.name::name
    left join pg_collation as c on c.oid = a.attcollation
    left join lateral (
        select format('%I.%I', n.nspname, f.proname) as function_name
        from pg_opclass as o
        join pg_am as m on m.oid = o.opcmethod
        join pg_amproc as u on
            u.amprocfamily = o.opcfamily and u.amproclefttype = o.opcintype and u.amprocrighttype = o.opcintype
        join pg_proc as f on f.oid = u.amproc
        join pg_namespace as n on n.oid = f.pronamespace
        where
            m.amname = 'hash' and o.opcdefault and u.amprocnum = 2 and f.proargtypes[0] = o.opcintype
            and o.opcintype = case
                when a.atttypid = 'varchar'::regtype or p_definition -> 'normalised' ? k.name then 'text'::regtype
                else a.atttypid
            end
    ) as h on true
    where
        c.collisdeterministic is not false
        and (p_other is null or a.atttypid = sqlkit._type_of(p_other, k.name::name))
);

comment on function sqlkit._hash_of(regclass, regclass, jsonb, text[]) is
'An expression for a number that is the same for all rows of a resource, whose columns the expressions are, in order.
A type''s own hash function takes a third of the time of that for rows, which does for types that have none. Columns
that may be equal without being alike, by a collation or as the other table has another type, are left out.';


create or replace function sqlkit.estimate_detection(p_rule text, p_full boolean default false)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $estimate_detection$
declare
    v_rule sqlkit.conflict_rule := sqlkit._find_rule(p_rule);
    v_rows bigint := 0;
    v_relation regclass;
    v_plan json;
begin
    if not p_full and sqlkit._tells_touched(v_rule) then
        return null;
    end if;
    foreach v_relation in array array_remove(array[v_rule.target::regclass, v_rule.other::regclass], null) loop
        if not sqlkit._tells_changes(v_relation) then
            return null;
        end if;
        -- As the planner has it: from the statistics and the pages that there are now, partitions added up.
        execute format('explain (format json) select from %s', v_relation)
        into v_plan;
        v_rows := v_rows + (v_plan -> 0 -> 'Plan' ->> 'Plan Rows')::numeric::bigint;
    end loop;
    return v_rows;
end;
$estimate_detection$;

comment on function sqlkit.estimate_detection(text, boolean) is
'About how many rows a detection that begins now goes through, as the planner estimates it, for deciding whether it is
worth doing in parts. null where it is not, however many there are: where only what was touched since the last detection
is looked at, and where rows come from a view or another server, all of which each part would compute or fetch.
Raises: SK802 if there is no such rule.';


create or replace function sqlkit._update_conflicts(
    p_rule sqlkit.conflict_rule,
    p_pairs text,
    p_scope text,
    p_part integer,
    p_counts sqlkit.conflict_counts
)
returns sqlkit.conflict_counts
language plpgsql
set search_path = pg_catalog, pg_temp
as $update_conflicts$
declare
    v_counts sqlkit.conflict_counts := p_counts;
begin
    -- PHASE: of the pairs that were found, and of those known, only what differs.
    execute format(
        $query$
        create temporary table sqlkit_found on commit drop as
        select c.conflict_id, c.resource as known_resource, f.*
        from (select c.* from sqlkit.conflict as c where c.conflict_rule_id = %s) as c
        full join (%s) as f on f.first_key = c.first_key and f.second_key = c.second_key
        where
            c.conflict_id is null
            or (f.first_key is null and c.gone_at is null and %s)
            or (
                f.first_key is not null
                and (c.gone_at is not null or f.facts is distinct from c.facts or f.resource is distinct from c.resource)
            )
        $query$,
        p_rule.conflict_rule_id, p_pairs, p_scope
    );
    perform sqlkit._refuse_doubled_pairs(p_rule, 'pg_temp.sqlkit_found as f where f.first_key is not null');
    -- Two parts have a pair in common whose rows moved from the one's resources to the other's: the one closes it, the
    -- other one finds it. And whoever settles conflicts locks them too. All in one order, so that nobody waits crosswise.
    perform
    from sqlkit.conflict as c
    where c.conflict_id in (select f.conflict_id from pg_temp.sqlkit_found as f)
    order by c.conflict_id
    for no key update;

    -- PHASE: record it.
    insert into sqlkit.conflict_event (
        conflict_id, action, state_before, measure_before, facts_before
    )
    select
        c.conflict_id,
        case
            when f.first_key is null then 'gone'
            when c.gone_at is not null then 'back'
            else 'changed'
        end,
        c.state,
        c.measure,
        c.facts
    from pg_temp.sqlkit_found as f
    join sqlkit.conflict as c on c.conflict_id = f.conflict_id
    -- Another part may have found it meanwhile, with another resource: then it is not gone.
    where f.first_key is not null or c.resource = f.known_resource;

    update sqlkit.conflict as c
    set
        state = 'resolved',
        gone_at = clock_timestamp(),
        changed_at = clock_timestamp(),
        changed_by = current_user,
        note = null
    from pg_temp.sqlkit_found as f
    where c.conflict_id = f.conflict_id and f.first_key is null and c.resource = f.known_resource;
    get diagnostics v_counts.pairs_closed = row_count;

    update sqlkit.conflict as c
    set
        resource = f.resource,
        measure = f.measure,
        facts = f.facts,
        state = 'open',
        gone_at = null,
        changed_at = clock_timestamp(),
        changed_by = current_user,
        note = null
    from pg_temp.sqlkit_found as f
    where c.conflict_id = f.conflict_id and f.first_key is not null;
    get diagnostics v_counts.pairs_changed = row_count;

    insert into sqlkit.conflict (conflict_rule_id, resource, first_key, second_key, measure, facts, part)
    select
        p_rule.conflict_rule_id,
        f.resource,
        f.first_key,
        f.second_key,
        f.measure,
        f.facts,
        p_part
    from pg_temp.sqlkit_found as f
    where f.conflict_id is null
    -- In one order, so that no two parts wait crosswise for a pair that moved from one to the other.
    order by f.first_key, f.second_key
    on conflict do nothing;
    get diagnostics v_counts.pairs_opened = row_count;
    drop table pg_temp.sqlkit_found;
    return v_counts;
end;
$update_conflicts$;

comment on function sqlkit._update_conflicts(sqlkit.conflict_rule, text, text, integer, sqlkit.conflict_counts) is
'Compares the pairs that a query finds with those that are known of a rule and within a scope (a condition of conflicts
c), and keeps what differs, with its history; adds how many pairs that were to the counts.
Writes: sqlkit.conflict, sqlkit.conflict_event. Raises: SK803 if the key of the rule is not unique.';


create or replace function sqlkit.detect_conflicts(
    p_rule text,
    p_full boolean default false,
    p_part integer default 1,
    p_parts integer default 1
)
returns sqlkit.conflict_counts
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off
-- Whoever is not shown all rows is refused, and does not close what others have found.
set row_security = off
-- Keys and facts are kept as they look: the same value has to look the same to everybody.
set timezone = 'UTC'
set datestyle = 'ISO'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
-- One sort is most of the work: in parallel, and in pieces that stay in the processor's cache, it takes half the time.
-- What is hashed has all the memory that a load would have.
set work_mem = '8MB'
set hash_mem_multiplier = 8
set parallel_setup_cost = 0
set parallel_tuple_cost = 0
as $detect_conflicts$
declare
    v_rule sqlkit.conflict_rule := sqlkit._find_rule(p_rule);
    v_counts sqlkit.conflict_counts := (0, 0, 0, 0, true);
    v_mark jsonb;
    v_compared text[] := sqlkit._compared(v_rule.definition);
    v_resource jsonb := v_rule.definition -> 'resource';
    v_part text := 'mod(%s & 255, %s) = %s';
    v_filter text := 'true';
    v_scope text := 'true';
    v_is_first boolean;
    v_pairs text;
    v_known_part integer := case when p_parts > 1 then p_part end;
begin
    -- One detection of a rule at a time; its parts may run side by side. Resources go by their hash into 256 shares, and
    -- each part locks its own: none is two parts' at once, be they of detections with other numbers of parts.
    if p_parts = 1 then
        perform pg_advisory_xact_lock('sqlkit.conflict_rule'::regclass::oid::integer, v_rule.conflict_rule_id::integer);
    else
        perform pg_advisory_xact_lock_shared(
            'sqlkit.conflict_rule'::regclass::oid::integer, v_rule.conflict_rule_id::integer
        );
        -- In one order, so that nobody waits crosswise.
        perform pg_advisory_xact_lock('sqlkit.conflict'::regclass::oid::integer, s.key)
        from (
            select hashtext(format('%s %s', v_rule.conflict_rule_id, n.share)) as key
            from generate_series(p_part - 1, 255, p_parts) as n (share)
            order by key
        ) as s;
    end if;
    v_rule := sqlkit._find_rule(p_rule);
    -- The conflicts' foreign key, held once for all of them.
    perform
    from sqlkit.conflict_rule as r
    where r.conflict_rule_id = v_rule.conflict_rule_id
    for key share;
    v_mark := sqlkit._mark_of(v_rule);
    perform set_config(
        'hash_mem_multiplier',
        least(1000, pg_size_bytes(sqlkit._memory_for_load('work_mem')) / pg_size_bytes('8MB'))::text,
        true
    );
    v_is_first := not exists (
        select
        from sqlkit.conflict as c
        where c.conflict_rule_id = v_rule.conflict_rule_id
    );

    -- PHASE: which resources.
    if p_parts > 1 then
        v_filter := format(
            v_part,
            sqlkit._hash_of(v_rule.target::regclass, v_rule.other::regclass, v_rule.definition, v_compared),
            p_parts,
            p_part - 1
        );
        v_scope := format(
            '(select %s from jsonb_to_record(c.resource) as q (%s))',
            format(
                v_part,
                sqlkit._hash_of(
                    v_rule.target::regclass,
                    v_rule.other::regclass,
                    v_rule.definition,
                    array(
                        select format('q.%I', k.name)
                        from jsonb_array_elements_text(v_resource) with ordinality as k (name, position)
                        order by k.position
                    )
                ),
                p_parts,
                p_part - 1
            ),
            -- A key that the other table has may be none of the target's type; then it tells of no part.
            sqlkit._typed_list(
                v_rule.target::regclass,
                v_resource,
                case
                    when v_rule.other is null then v_rule.definition -> 'normalised'
                    else (
                        select coalesce(jsonb_agg(k.name), '[]')
                        from jsonb_array_elements_text(v_resource) as k (name)
                        where
                            sqlkit._type_of(v_rule.target::regclass, k.name::name)
                            <> sqlkit._type_of(v_rule.other::regclass, k.name::name)
                    )
                end
            )
        );
    elsif not p_full and sqlkit._find_touched(v_rule) then
        v_counts.is_full := false;
        v_filter := format(
            'exists (select from pg_temp.sqlkit_touched as w where %s)',
            sqlkit._equal_list(
                v_rule.target::regclass, v_resource, 'w.r%2$s', null, v_compared,
                coalesce(v_rule.definition -> 'normalised', '[]')
            )
        ) || sqlkit._touched_constants(v_rule);
        v_scope := 'c.resource in (select w.resource from pg_temp.sqlkit_touched as w)';
    end if;

    -- PHASE: find the pairs. In two statements: only the first, which looks at all rows, is worth being done in
    -- parallel, and what inserts cannot be.
    execute format(
        'create temporary table sqlkit_candidate on commit drop as %s',
        sqlkit._conflict_candidates(v_rule, v_filter)
    );
    v_pairs := sqlkit._conflict_pairs(v_rule, 'pg_temp.sqlkit_candidate');
    if v_is_first and sqlkit._is_unique(v_rule.target::regclass, v_rule.key_columns) then
        v_counts.pairs_opened := sqlkit._write(format(
            'insert into sqlkit.conflict (conflict_rule_id, resource, first_key, second_key, measure, facts, part) '
            'select %s, f.resource, f.first_key, f.second_key, f.measure, f.facts, %s from (%s) as f%s',
            v_rule.conflict_rule_id,
            coalesce(v_known_part::text, 'null'),
            v_pairs,
            -- Another part may find it at the same time, if both rows have moved meanwhile: then one of them keeps it.
            case when p_parts > 1 then ' order by f.first_key, f.second_key on conflict do nothing' end
        ));
    else
        v_counts := sqlkit._update_conflicts(v_rule, v_pairs, v_scope, v_known_part, v_counts);
    end if;
    drop table pg_temp.sqlkit_candidate;
    if not v_counts.is_full then
        drop table pg_temp.sqlkit_touched;
    end if;

    if v_is_first and p_parts = 1 then
        v_counts.pairs_open := v_counts.pairs_opened;
    else
        select count(*)
        into v_counts.pairs_open
        from sqlkit.conflict as c
        where c.conflict_rule_id = v_rule.conflict_rule_id and c.state = 'open';
    end if;
    if p_parts = 1 then
        perform sqlkit.finish_detection(p_rule, v_mark);
    end if;
    return v_counts;
end;
$detect_conflicts$;

comment on function sqlkit.detect_conflicts(text, boolean, integer, integer) is
'Finds all pairs of rows that a rule has for contradictory, and compares them with those that are known: new ones are
opened, those whose rows say something else now are opened again, those that are gone are closed; the others stay as
they are, settled ones too. Only resources that were touched since the last detection are looked at, unless p_full.
With p_parts, a part of the resources (of up to 256): call it for each p_part from 1 on, side by side in sessions of their
own, between mark_detection() and finish_detection(). Who has a resource in common with it waits until it commits.
Writes: sqlkit.conflict, sqlkit.conflict_event, sqlkit.conflict_rule, and the target''s flag where the rule goes by one.
Locks: advisory, on the rule and the resources of a part, until commit. Raises: SK802 if there is no such rule, SK803 if its
key is not unique, 42501 where row security would hide rows of its table.';


create or replace function sqlkit._is_unique(p_target regclass, p_columns name[])
returns boolean
language sql
stable
return exists (
    select
    from sqlkit._unique_keys(p_target) as k
    where k.columns <@ p_columns
);

comment on function sqlkit._is_unique(regclass, name[]) is
'Whether no two rows of a table can be alike in all of these columns.';


create or replace function sqlkit._refuse_doubled_pairs(p_rule sqlkit.conflict_rule, p_pairs text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $refuse_doubled_pairs$
declare
    v_key jsonb;
begin
    if sqlkit._is_unique(p_rule.target::regclass, p_rule.key_columns) then
        return;
    end if;
    execute format(
        'select f.first_key from %s group by f.first_key, f.second_key '
        'having count(*) > 1 or (f.first_key = f.second_key and %L) limit 1',
        p_pairs, p_rule.kind <> 'disagree'
    )
    into v_key;
    if v_key is not null then
        raise exception using
            errcode = 'SK803',
            message = format('rows of rule %s have the same key', p_rule.name),
            detail = format('Table: %s; key: %s.', p_rule.target, v_key),
            hint = 'Define the rule with a key that is unique.';
    end if;
end;
$refuse_doubled_pairs$;

comment on function sqlkit._refuse_doubled_pairs(sqlkit.conflict_rule, text) is
'Raises SK803 if pairs (what stands after FROM, f) show that the key of a rule is not unique.';
