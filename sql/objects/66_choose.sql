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
    v_new bigint := sqlkit._count_rows(format('select from only %s', sqlkit._table_name(p_stage)));
    v_old bigint := sqlkit._count_rows(format('select from %s', sqlkit._table_name(v_target)));
    v_key name[] := sqlkit._key_or_none(v_target, p_key);
    v_no_swap text[] := sqlkit._swap_obstacles(v_target);
    v_no_truncate text[] := sqlkit._truncate_obstacles(v_target);
    v_indexes bigint;
    v_readers bigint;
    v_share double precision;
    v_limit text := 'mirror_share';
    v_seconds double precision;
    v_would_wait boolean;
begin
    perform sqlkit._refuse_versions(p_stage, v_target);
    select count(*)
    into v_indexes
    from pg_index as i
    where i.indrelid = v_target;
    select count(distinct l.pid)
    into v_readers
    from pg_locks as l
    where l.locktype = 'relation' and l.relation = v_target and l.pid <> pg_backend_pid();
    if exists (
        select from pg_trigger as t
        where t.tgrelid = v_target and not t.tgisinternal and t.tgenabled <> 'D' and t.tgtype & 4 = 4
    ) then
        v_no_swap := v_no_swap || 'it has triggers for inserts, and a swap would pass them by'::text;
    end if;
    -- Who asked for a swap knows; nobody else is to find out by what his subscribers lack, or have too much of.
    if exists (select from sqlkit._publications(v_target)) then
        v_no_swap := v_no_swap || 'it is published, and subscribers would not be sent the new rows'::text;
    end if;
    if exists (select from sqlkit._publications(v_target) as p where not p.sends_truncates) then
        v_no_truncate := v_no_truncate || 'it is published without truncates, and subscribers would keep the old rows'::text;
    end if;
    reasons := array[
        format('rows: %s in the table, %s in the new content; indexes: %s', v_old, v_new, v_indexes),
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
    v_seconds := v_new * (1 + v_indexes) * sqlkit._threshold('row_microseconds') / 1000000;
    v_would_wait := v_old > 0 and (v_readers > 0 or v_seconds > sqlkit._threshold('swap_seconds'));
    if v_key is not null then
        if cardinality(v_no_swap) > 0 and cardinality(v_no_truncate) > 0 then
            strategy := 'mirror';
            reasons := reasons || 'mirror: neither of the others can be'::text;
            return;
        end if;
        if v_old > 0 and greatest(v_old, v_new) <= sqlkit._threshold('small_rows') then
            strategy := 'mirror';
            reasons := reasons || format('mirror: at most %s rows (small_rows)', sqlkit._threshold('small_rows'));
            return;
        end if;
        if v_old > 0 then
            v_share := sqlkit._changed_share(p_stage, v_target, v_key);
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
            when v_old = 0 then 'truncate: the table is empty'
            when cardinality(v_no_swap) > 0 then 'truncate: a swap cannot be'
            else format('truncate: at most %s s (swap_seconds)', sqlkit._threshold('swap_seconds'))
        end;
    end if;
end;
$choose_strategy$;

comment on function sqlkit.choose_strategy(regclass, name[], name[]) is
'The strategy by which auto would refresh the target of a stage, and the reasons: what was measured, and against which
threshold of sqlkit.refresh_threshold. A swap, of which subscribers hear nothing, is chosen for no table that is
published. Nothing is changed. Raises: SK208 if it is no stage, SK203 and SK204 for a key, SK212 for a history of which
the stage tells no ranges.';
