-- The exchange: in one short transaction the new table takes the place of the old one, with all that hangs on it.

create or replace function sqlkit._exchange_statements(p_target regclass, p_copy regclass)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $exchange_statements$
declare
    v_target text := sqlkit._table_name(p_target);
    v_old text;
    v_class pg_class;
    v_copy pg_class;
    v_schema name;
begin
    select c.*
    into v_class
    from pg_class as c
    where c.oid = p_target;
    select c.*
    into v_copy
    from pg_class as c
    where c.oid = p_copy;
    select n.nspname
    into v_schema
    from pg_namespace as n
    where n.oid = v_class.relnamespace;
    v_old := format('%I.%I', v_schema, 'sqlkit_old_' || p_target::oid);
    return array(
        -- Readers of a view lock it before the table: so do we.
        select format('alter view %s owner to %I', sqlkit._table_name(v.oid::regclass), pg_get_userbyid(v.relowner))
        from sqlkit._dependants(p_target) as d
        join pg_class as v on v.oid = d.object_id and d.class_id = 'pg_class'::regclass
    )
    || format('lock table only %s in access exclusive mode', v_target)
    || format('alter table %s rename to %I', v_target, 'sqlkit_old_' || p_target::oid)
    || format('alter table %s set schema %I', sqlkit._table_name(p_copy), v_schema)
    || format('alter table %I.%I rename to %I', v_schema, v_copy.relname, v_class.relname)
    || case
        when v_class.relowner <> v_copy.relowner
            then array[format('alter table %s owner to %I', v_target, pg_get_userbyid(v_class.relowner))]
    end
    -- Sequences: that of an identity column is a new one, and goes on where the old one stands.
    || array(
        select case
            when d.deptype = 'a' then format('alter sequence %s owned by %s.%I', sqlkit._table_name(s.oid::regclass), v_target, a.attname)
            else format(
                'select setval(pg_get_serial_sequence(%L, %L), s.last_value, s.is_called) from %s as s',
                v_target, a.attname, sqlkit._table_name(s.oid::regclass)
            )
        end
        from pg_depend as d
        join pg_class as s on s.oid = d.objid and s.relkind = 'S'
        join pg_attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
        where
            d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
            and d.refobjid = p_target and d.deptype in ('a', 'i')
    )
    || array(
        select case
            when d.class_id = 'pg_class'::regclass then format(
                'create or replace view %s%s as %s',
                sqlkit._table_name(v.oid::regclass),
                ' with (' || array_to_string(v.reloptions, ', ') || ')',
                pg_get_viewdef(v.oid)
            )
            else pg_get_functiondef(d.object_id)
        end
        from sqlkit._dependants(p_target) as d
        left join pg_class as v on v.oid = d.object_id and d.class_id = 'pg_class'::regclass
    )
    || format('drop table %s', v_old)
    -- Names that are free only now.
    || array(
        select case
            when k.oid is null then format('alter index %I.%I rename to %I', v_schema, n.new_name, x.relname)
            else format('alter table %s rename constraint %I to %I', v_target, n.new_name, k.conname)
        end
        from pg_index as i
        join pg_class as x on x.oid = i.indexrelid
        left join pg_constraint as k on k.conindid = i.indexrelid and k.conrelid = p_target
        cross join lateral format('sqlkit_%s_%s', p_copy::oid, i.indexrelid) as n (new_name)
        where i.indrelid = p_target
    )
    || array(
        select u.statement
        from pg_statistic_ext as e
        join pg_namespace as n on n.oid = e.stxnamespace
        cross join lateral format('sqlkit_%s_%s', p_copy::oid, e.oid) as m (new_name)
        cross join lateral unnest(array[
            case when e.stxnamespace <> 'sqlkit_stage'::regnamespace then format('alter statistics sqlkit_stage.%I set schema %I', m.new_name, n.nspname) end,
            format('alter statistics %I.%I rename to %I', n.nspname, m.new_name, e.stxname),
            case when e.stxowner <> v_copy.relowner then format('alter statistics %I.%I owner to %I', n.nspname, e.stxname, pg_get_userbyid(e.stxowner)) end,
            format('comment on statistics %I.%I is %L', n.nspname, e.stxname, obj_description(e.oid, 'pg_statistic_ext'))
        ]) as u (statement)
        where e.stxrelid = p_target and u.statement is not null
    )
    || array(
        select u.statement
        from pg_depend as d
        join pg_class as s on s.oid = d.objid and s.relkind = 'S'
        join pg_attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
        join pg_attribute as b on b.attrelid = p_copy and b.attname = a.attname
        join pg_depend as e
            on
                e.classid = 'pg_class'::regclass and e.refclassid = 'pg_class'::regclass
                and e.refobjid = p_copy and e.refobjsubid = b.attnum and e.deptype = 'i'
        join pg_class as w on w.oid = e.objid and w.relkind = 'S'
        join pg_sequence as q on q.seqrelid = s.oid
        cross join lateral unnest(
            array[
                -- LIKE forgets of which type it was.
                format(
                    'alter sequence %I.%I as %s minvalue %s maxvalue %s',
                    v_schema, w.relname, q.seqtypid::regtype, q.seqmin, q.seqmax
                ),
                format('alter sequence %I.%I rename to %I', v_schema, w.relname, s.relname),
                format('comment on sequence %I.%I is %L', v_schema, s.relname, obj_description(s.oid, 'pg_class'))
            ]
            || sqlkit._grants(format('sequence %I.%I', v_schema, s.relname), s.relacl, 's', s.relowner, w.relacl)
        ) with ordinality as u (statement, position)
        where
            d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
            and d.refobjid = p_target and d.deptype = 'i'
        order by s.oid, u.position
    )
    -- What names the table.
    || array(
        select u.statement
        from pg_trigger as t
        cross join lateral unnest(array[
            pg_get_triggerdef(t.oid),
            format('comment on trigger %I on %s is %L', t.tgname, v_target, obj_description(t.oid, 'pg_trigger')),
            case t.tgenabled
                when 'D' then format('alter table %s disable trigger %I', v_target, t.tgname)
                when 'R' then format('alter table %s enable replica trigger %I', v_target, t.tgname)
                when 'A' then format('alter table %s enable always trigger %I', v_target, t.tgname)
            end
        ]) with ordinality as u (statement, position)
        where t.tgrelid = p_target and not t.tgisinternal and u.statement is not null
        order by t.oid, u.position
    )
    || array(
        select u.statement
        from pg_rewrite as w
        cross join lateral unnest(array[
            pg_get_ruledef(w.oid),
            format('comment on rule %I on %s is %L', w.rulename, v_target, obj_description(w.oid, 'pg_rewrite')),
            case w.ev_enabled
                when 'D' then format('alter table %s disable rule %I', v_target, w.rulename)
                when 'R' then format('alter table %s enable replica rule %I', v_target, w.rulename)
                when 'A' then format('alter table %s enable always rule %I', v_target, w.rulename)
            end
        ]) with ordinality as u (statement, position)
        where w.ev_class = p_target and u.statement is not null
        order by w.oid, u.position
    )
    || array(
        select u.statement
        from pg_policy as p
        cross join lateral unnest(array[
            format(
                'create policy %I on %s as %s for %s to %s%s%s',
                p.polname,
                v_target,
                case when p.polpermissive then 'permissive' else 'restrictive' end,
                case p.polcmd
                    when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete'
                    else 'all'
                end,
                (
                    select string_agg(case r when 0 then 'public' else quote_ident(pg_get_userbyid(r)) end, ', ')
                    from unnest(p.polroles) as r
                ),
                ' using (' || pg_get_expr(p.polqual, p.polrelid) || ')',
                ' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'
            ),
            format('comment on policy %I on %s is %L', p.polname, v_target, obj_description(p.oid, 'pg_policy'))
        ]) with ordinality as u (statement, position)
        where p.polrelid = p_target
        order by p.oid, u.position
    )
    || case when v_class.relrowsecurity then array[format('alter table %s enable row level security', v_target)] end
    || case when v_class.relforcerowsecurity then array[format('alter table %s force row level security', v_target)] end
    || case v_class.relreplident
        when 'f' then array[format('alter table %s replica identity full', v_target)]
        when 'n' then array[format('alter table %s replica identity nothing', v_target)]
    end
    || array(
        select format(
            'alter publication %I add table only %s%s%s',
            b.pubname,
            v_target,
            ' (' || (
                select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
                from pg_attribute as a
                where a.attrelid = p_target and a.attnum = any(r.prattrs::smallint[])
            ) || ')',
            ' where (' || pg_get_expr(r.prqual, r.prrelid) || ')'
        )
        from pg_publication_rel as r
        join pg_publication as b on b.oid = r.prpubid
        where r.prrelid = p_target
    )
    || sqlkit._grants(v_target, v_class.relacl, 'r', v_class.relowner, v_copy.relacl)
    || array(
        select format(
            'grant %s (%I) on %s to %s%s',
            g ->> 'privilege', a.attname, v_target, g ->> 'grantee',
            case when (g ->> 'option')::boolean then ' with grant option' else '' end
        )
        from pg_attribute as a
        cross join jsonb_array_elements(sqlkit._privileges(a.attacl, 'c', v_class.relowner)) as g
        where a.attrelid = p_target and a.attnum > 0 and not a.attisdropped and a.attacl is not null
    )
    || format('comment on table %s is %L', v_target, obj_description(p_target, 'pg_class'))
    || array(
        select format(
            'comment on constraint %I on %s is %L', k.conname, v_target, obj_description(k.oid, 'pg_constraint')
        )
        from pg_constraint as k
        where k.conrelid = p_target and k.contype <> 't' and obj_description(k.oid, 'pg_constraint') is not null
    );
end;
$exchange_statements$;

comment on function sqlkit._exchange_statements(regclass, regclass) is
'The statements, in order, that put a copy of a table in its place and make the two alike.';


create or replace function sqlkit._exchange(p_target regclass, p_copy regclass, p_patience interval default '1 minute')
returns regclass
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $exchange$
declare
    v_target text := sqlkit._table_name(p_target);
    v_name name := (select c.relname from pg_class as c where c.oid = p_copy);
    v_until timestamptz := clock_timestamp() + p_patience;
    v_statements text[];
    v_before jsonb;
    v_after jsonb;
    v_statement text;
begin
    -- Nobody changes what the table is from here on; reading and writing go on.
    execute format('lock table only %s in share update exclusive mode', v_target);
    perform sqlkit._refuse_strategy(p_target, 'swap', sqlkit._swap_obstacles(p_target));
    v_before := sqlkit._signature(p_target);
    v_statements := sqlkit._exchange_statements(p_target, p_copy);
    -- Who waits for the lock holds up all who come later: for so long, and no longer, at a time.
    perform set_config('lock_timeout', '20ms', true);
    loop
        begin
            foreach v_statement in array v_statements
            loop
                execute v_statement;
            end loop;
            exit;
        exception
            when lock_not_available or deadlock_detected then
                if clock_timestamp() > v_until then
                    raise;
                end if;
        end;
        perform pg_sleep(0.1 + random() / 2);
    end loop;
    v_after := sqlkit._signature(v_target::regclass);
    if v_after is distinct from v_before then
        raise exception using
            errcode = 'SK211',
            message = 'the new table does not equal the old one',
            detail = (
                select string_agg(format('%s: %s, but %s', b.key, b.value, a.value), E'\n')
                from jsonb_each(v_before) as b
                join jsonb_each(v_after) as a on a.key = b.key and a.value is distinct from b.value
            ),
            hint = 'Strategies truncate and mirror keep the table that is there.';
    end if;
    delete from sqlkit.stage where name = v_name;
    return v_target::regclass;
end;
$exchange$;

comment on function sqlkit._exchange(regclass, regclass, interval) is
'Puts a copy of a table in its place: all at once, under a lock for which it waits 20 ms a try, with rests between.
The old table is dropped. Writes: sqlkit.stage. Locks: ACCESS EXCLUSIVE on the table and on views of it until commit.
Raises: 55P03 if the lock is not to be had within p_patience, SK210 if something depends on the table that cannot be
kept, SK211 if the new table is not like the old one; then nothing is changed.';


create or replace function sqlkit._await_snapshots(p_copy regclass, p_patience interval default '5 minutes')
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $await_snapshots$
declare
    v_until timestamptz := clock_timestamp() + p_patience;
    v_pids integer[];
begin
    -- Whoever took his snapshot before the copy was committed would find it empty.
    loop
        perform pg_stat_clear_snapshot();
        select array_agg(a.pid order by a.pid)
        into v_pids
        from pg_stat_activity as a
        cross join pg_class as c
        where
            c.oid = p_copy
            and a.datname = current_database()
            and a.backend_type in ('client backend', 'parallel worker')
            and a.pid <> pg_backend_pid()
            and age(a.backend_xmin) >= age(c.xmin);
        exit when v_pids is null;
        if clock_timestamp() > v_until then
            raise exception using
                errcode = '55P03',
                message = 'transactions that began before the new table was built go on',
                detail = format('Server processes: %s.', array_to_string(v_pids, ', ')),
                hint = 'Refresh again when they have ended: select * from pg_stat_activity;';
        end if;
        perform pg_sleep(0.1);
    end loop;
end;
$await_snapshots$;

comment on function sqlkit._await_snapshots(regclass, interval) is
'Waits until nobody reads with a snapshot that is older than a copy, as far as the caller may see that: a role that
may read all statistics sees everybody. Raises: 55P03 if that is not so within p_patience.';
