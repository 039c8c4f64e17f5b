-- Auto: which strategy a refresh takes, from what can be measured at little cost, and why.

create or replace function sqlkit._changed_share(p_stage regclass, p_target regclass, p_key name[])
returns double precision
language plpgsql
set search_path = pg_catalog, pg_temp
set parallel_tuple_cost = 0
set parallel_setup_cost = 0
as $changed_share$
declare
    v_pages double precision := greatest(1, pg_relation_size(p_target) / current_setting('block_size')::bigint);
    v_rows double precision := greatest(1, sqlkit._count_rows(format('select from %s', sqlkit._table_name(p_target))));
    v_new double precision := sqlkit._count_rows(format('select from only %s', sqlkit._table_name(p_stage)));
    v_columns name[] := sqlkit._staged_columns(p_stage, p_target);
    v_sampled double precision;
    v_met double precision;
    v_same double precision;
begin
    -- Whole pages, at least ten: rows that lie together often change together.
    execute format(
        'select count(*), count(s.place), count(*) filter (where s.place is not null and not (%6$s)) '
        'from (select * from %1$s tablesample system (%2$s) repeatable (1)) as t '
        'left join (select %3$s, s.ctid as place from only %4$s as s) as s on %5$s',
        sqlkit._table_name(p_target),
        least(100, 100 * greatest(sqlkit._threshold('sample_rows') / v_rows, 10 / v_pages)),
        sqlkit._column_list(v_columns, 's.%I'),
        sqlkit._table_name(p_stage),
        sqlkit._key_match(p_target, p_key),
        sqlkit._difference(p_target, sqlkit._value_columns(p_target, v_columns, p_key))
    )
    into v_sampled, v_met, v_same;
    if v_sampled = 0 then
        return 1;
    end if;
    -- Rows to be written: those that differ or go, and those that come.
    return least(
        1, (v_rows * (1 - v_same / v_sampled) + greatest(0, v_new - v_rows * v_met / v_sampled)) / greatest(v_rows, v_new)
    );
end;
$changed_share$;

comment on function sqlkit._changed_share(regclass, regclass, name[]) is
'The share of rows (0 to 1) that mirror would write, from a sample of pages of the target.';


create or replace function sqlkit._publications(p_target regclass)
returns table (name name, sends_truncates boolean)
language sql
stable
begin atomic
select
    p.pubname,
    p.pubtruncate
from pg_publication as p
where exists (
    select
    from pg_publication_tables as t
    join pg_namespace as n on n.nspname = t.schemaname
    join pg_class as c on c.relnamespace = n.oid and c.relname = t.tablename
    where
        t.pubname = p.pubname
        and (
            c.oid = p_target
            or c.oid in (select a.relid from pg_partition_ancestors(p_target) as a (relid))
            or c.oid in (select r.relid from pg_partition_tree(p_target) as r)
        )
);
end;

comment on function sqlkit._publications(regclass) is
'The publications that send changes of a table: as such, as one of its schema, as a partition or by its partitions; and
whether they send that it is emptied.';


create or replace function sqlkit._choose(
    p_target regclass,
    p_old bigint,
    p_new bigint,
    p_stage regclass,
    p_share double precision,
    p_scope name[],
    p_key name[],
    out strategy text,
    out reasons text[]
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $choose$
declare
    v_key name[] := sqlkit._key_or_none(p_target, p_key);
    v_no_swap text[] := sqlkit._swap_obstacles(p_target);
    v_no_truncate text[] := sqlkit._truncate_obstacles(p_target);
    v_indexes bigint;
    v_readers bigint;
    v_share double precision;
    v_limit text := 'mirror_share';
    v_seconds double precision;
    v_would_wait boolean;
begin
    select count(*)
    into v_indexes
    from pg_index as i
    where i.indrelid = p_target;
    select count(distinct l.pid)
    into v_readers
    from pg_locks as l
    where l.locktype = 'relation' and l.relation = p_target and l.pid <> pg_backend_pid();
    if exists (
        select from pg_trigger as t
        where t.tgrelid = p_target and not t.tgisinternal and t.tgenabled <> 'D' and t.tgtype & 4 = 4
    ) then
        v_no_swap := v_no_swap || 'it has triggers for inserts, and a swap would pass them by'::text;
    end if;
    -- Who asked for a swap knows; nobody else is to find out by what his subscribers lack, or have too much of.
    if exists (select from sqlkit._publications(p_target)) then
        v_no_swap := v_no_swap || 'it is published, and subscribers would not be sent the new rows'::text;
    end if;
    if exists (select from sqlkit._publications(p_target) as p where not p.sends_truncates) then
        v_no_truncate := v_no_truncate || 'it is published without truncates, and subscribers would keep the old rows'::text;
    end if;
    reasons := array[
        format('rows: %s in the table, %s in the new content; indexes: %s', p_old, p_new, v_indexes),
        format('sessions at the table now: %s', v_readers)
    ];
    if cardinality(v_no_swap) > 0 then
        reasons := reasons || ('no swap: ' || array_to_string(v_no_swap, '; '));
    end if;
    if cardinality(v_no_truncate) > 0 then
        reasons := reasons || ('no truncate: ' || array_to_string(v_no_truncate, '; '));
    end if;

    if p_scope is not null then
        strategy := 'mirror';
        reasons := reasons || 'mirror: a scope is given'::text;
        return;
    end if;
    v_seconds := p_new * (1 + v_indexes) * sqlkit._threshold('row_microseconds') / 1000000;
    v_would_wait := p_old > 0 and (v_readers > 0 or v_seconds > sqlkit._threshold('swap_seconds'));
    if v_key is not null then
        if cardinality(v_no_swap) > 0 and cardinality(v_no_truncate) > 0 then
            strategy := 'mirror';
            reasons := reasons || 'mirror: neither of the others can be'::text;
            return;
        end if;
        if p_old > 0 and greatest(p_old, p_new) <= sqlkit._threshold('small_rows') then
            strategy := 'mirror';
            reasons := reasons || format('mirror: at most %s rows (small_rows)', sqlkit._threshold('small_rows'));
            return;
        end if;
        if p_old > 0 then
            v_share := coalesce(p_share, sqlkit._changed_share(p_stage, p_target, v_key));
            reasons := reasons || format('to be written, by a sample: %s%% of the rows', round((100 * v_share)::numeric, 1));
            if cardinality(v_no_swap) > 0 and v_would_wait then
                v_limit := 'mirror_share_readers';
                reasons := reasons || 'readers would wait for a truncate, and a swap cannot be'::text;
            end if;
            if v_share <= sqlkit._threshold(v_limit) then
                strategy := 'mirror';
                reasons := reasons || format('mirror: at most %s%% (%s)', 100 * sqlkit._threshold(v_limit), v_limit);
                return;
            end if;
        end if;
    end if;
    reasons := reasons || format('readers would wait for a truncate: about %s s', round(v_seconds::numeric, 1));
    if cardinality(v_no_swap) = 0
        and (cardinality(v_no_truncate) > 0 or v_would_wait)
    then
        strategy := 'swap';
        reasons := reasons || case
            when cardinality(v_no_truncate) > 0 then 'swap: a truncate cannot be'
            when v_readers > 0 then 'swap: others are at the table'
            else format('swap: more than %s s (swap_seconds)', sqlkit._threshold('swap_seconds'))
        end;
    else
        strategy := 'truncate';
        reasons := reasons || case
            when p_old = 0 then 'truncate: the table is empty'
            when cardinality(v_no_swap) > 0 then 'truncate: a swap cannot be'
            else format('truncate: at most %s s (swap_seconds)', sqlkit._threshold('swap_seconds'))
        end;
    end if;
end;
$choose$;

comment on function sqlkit._choose(regclass, bigint, bigint, regclass, double precision, name[], name[]) is
'The strategy of auto for a target that has p_old rows and would have p_new, and the reasons. What share of the rows
differs is p_share, or measured in the stage.';


create or replace function sqlkit.choose_strategy(
    p_stage regclass,
    p_scope name[] default null,
    p_key name[] default null,
    out strategy text,
    out reasons text[]
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $choose_strategy$
declare
    v_target regclass := sqlkit._stage_target(p_stage);
begin
    perform sqlkit._refuse_versions(p_stage, v_target);
    select c.*
    into strategy, reasons
    from sqlkit._choose(
        v_target,
        sqlkit._count_rows(format('select from %s', sqlkit._table_name(v_target))),
        sqlkit._count_rows(format('select from only %s', sqlkit._table_name(p_stage))),
        p_stage,
        null,
        p_scope,
        p_key
    ) as c;
end;
$choose_strategy$;

comment on function sqlkit.choose_strategy(regclass, name[], name[]) is
'The strategy by which auto would refresh the target of a stage, and the reasons: what was measured, and against which
threshold of sqlkit.refresh_threshold. A swap, of which subscribers hear nothing, is chosen for no table that is
published. Nothing is changed. Raises: SK208 if it is no stage, SK203 and SK204 for a key, SK212 for a history of which
the stage tells no ranges.';


create or replace function sqlkit.foresee_refresh(
    p_target regclass,
    p_strategy text default 'auto',
    p_rows bigint default null,
    p_bytes bigint default null,
    p_share double precision default 1,
    p_scope name[] default null,
    p_key name[] default null,
    out strategy text,
    out reasons text[],
    out obstacles text[]
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $foresee_refresh$
declare
    v_old bigint;
    v_new bigint := p_rows;
begin
    if p_strategy not in ('auto', 'mirror', 'truncate', 'swap') then
        perform sqlkit._refuse_unknown_strategy(p_target, p_strategy);
    end if;
    strategy := p_strategy;
    reasons := '{}';
    obstacles := '{}';
    if p_strategy = 'auto' then
        v_old := sqlkit._count_rows(format('select from %s', sqlkit._table_name(p_target)));
        if v_new is null then
            -- A row takes about as much in the input as in the table.
            v_new := coalesce(
                round(p_bytes * v_old / nullif(pg_relation_size(p_target), 0)::double precision)::bigint, v_old
            );
        end if;
        select c.*
        into strategy, reasons
        from sqlkit._choose(p_target, v_old, v_new, null, coalesce(p_share, 1), p_scope, p_key) as c;
    elsif p_strategy = 'mirror' then
        perform sqlkit.find_policy_key(p_target, 'update', p_key);
    elsif p_scope is not null then
        obstacles := array['a scope is given, and only mirror keeps what lies outside of it'];
    end if;
    if strategy = 'swap' then
        obstacles := obstacles || sqlkit._swap_obstacles(p_target);
        reasons := reasons || array(
            select d.description || ' is told of the new table'
            from sqlkit._dependants(p_target) as d
            where d.is_kept
        ) || array(
            select format('publication %I: subscribers are not sent the new rows', p.name)
            from sqlkit._publications(p_target) as p
        );
    elsif strategy = 'truncate' then
        obstacles := obstacles || sqlkit._truncate_obstacles(p_target);
        reasons := reasons || array(
            select format('publication %I: subscribers keep the old rows', p.name)
            from sqlkit._publications(p_target) as p
            where not p.sends_truncates
        );
    end if;
end;
$foresee_refresh$;

comment on function sqlkit.foresee_refresh(
    regclass, text, bigint, bigint, double precision, name[], name[]
) is
'What a refresh would do as the target is now, before its new content is staged: the strategy, which is what auto would
choose; why, and what else follows; and the obstacles for which it would be refused. The new content has p_rows rows,
or p_bytes bytes, or as many rows as the target; a share of them (0 to 1) differs, all unless said.
Changes nothing, and may be called in a read-only transaction. Raises: SK209 no such strategy, SK202,
SK203 or SK204 for the key.';
