-- The horizon of dead rows: as long as somebody may still want to see them, nothing removes them.

create or replace function sqlkit._horizon_holders(p_patience interval)
returns table (
    weight integer,
    holder text,
    detail text,
    statement text,
    xmin_age integer
)
language sql
stable
begin atomic
with held (weight, holder, detail, statement, xmin_age) as (
    select
        60,
        'session ' || a.pid,
        format(
            'session %s of %s holds back the horizon of dead rows by a transaction since %s',
            a.pid, coalesce(quote_ident(a.usename), a.backend_type), date_trunc('second', a.xact_start)
        ),
        format('select pg_terminate_backend(%s)', a.pid),
        greatest(age(a.backend_xmin), age(a.backend_xid))
    from pg_stat_activity as a
    where
        (a.backend_xmin is not null or a.backend_xid is not null)
        and a.xact_start < clock_timestamp() - p_patience
        and a.pid <> pg_backend_pid()
        -- Those of other databases see none of the rows of this one.
        and (a.datid is null or a.datname = current_database())
        -- VACUUM holds back nothing; what it works at is seen by its locks.
        and a.backend_type in ('client backend', 'parallel worker', 'background worker')
        and not exists (select from pg_stat_progress_vacuum as v
where v.pid = a.pid)
    union all
    select
        70,
        format('prepared transaction %L', x.gid),
        format(
            'prepared transaction %L holds back the horizon of dead rows since %s',
            x.gid, date_trunc('second', x.prepared)
        ),
        format('rollback prepared %L', x.gid),
        age(x.transaction)
    from pg_prepared_xacts as x
    where x.database = current_database() and x.prepared < clock_timestamp() - p_patience
    union all
    select
        80,
        format('replication slot %I', s.slot_name),
        format('replication slot %I holds back the horizon of dead rows, and nobody reads it', s.slot_name),
        format('select pg_drop_replication_slot(%L)', s.slot_name),
        age(s.xmin)
    from pg_replication_slots as s
    where s.xmin is not null and not s.active
    union all
    select
        50,
        'standby ' || f.name,
        format(
            'standby %s holds back the horizon of dead rows by a query since before %s (hot_standby_feedback)',
            f.name, date_trunc('second', w.finished_at)
        ),
        '/* there, or end its oldest query */ alter system set hot_standby_feedback = off; select pg_reload_conf()'
        as statement,
        age(f.xmin)
    from (
        select
            coalesce(nullif(r.application_name, ''), r.client_addr::text, r.pid::text) as name,
            coalesce(r.backend_xmin, s.xmin) as xmin
        from pg_stat_replication as r
        left join pg_replication_slots as s on s.active_pid = r.pid
    ) as f
    cross join lateral (
        -- How long, a transaction id does not tell. But whoever does not see yet what a run wrote when it finished,
        -- looks at what was before that. Of older runs the ids may have come round.
        select min(r.finished_at) as finished_at
        from sqlkit.run as r
        where
            r.finished_at < clock_timestamp() - p_patience
            and r.finished_at > clock_timestamp() - p_patience - interval '7 days'
            and age(r.xmin) between 0 and age(f.xmin)
    ) as w
    where w.finished_at is not null
)

select
    h.weight,
    h.holder,
    h.detail,
    h.statement,
    h.xmin_age
from held as h;
end;

comment on function sqlkit._horizon_holders(interval) is
'Who has kept dead rows of this database from being removed for longer than so, with a statement that ends it: sessions,
prepared transactions, abandoned replication slots, queries of a standby (as far as runs in the ledger tell how old they
are). Of other roles'' sessions, and of standbys, only pg_read_all_stats sees it.';


create or replace function sqlkit._held_horizon(p_patience interval)
returns text
language sql
stable
begin atomic
select
    case
        when pg_is_in_recovery() then 'the server is a standby'
        else (
            select h.detail from sqlkit._horizon_holders(p_patience) as h
order by h.xmin_age desc, h.holder
limit 1
        )
    end as holder;
end;

comment on function sqlkit._held_horizon(interval) is
'Who has kept dead rows from being removed for longer than so, as _horizon_holders() finds it; null if nobody.';
