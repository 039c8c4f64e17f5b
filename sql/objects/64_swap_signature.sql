-- What makes a table what it is, as text: two tables are alike where it is the same. And its privileges.

create or replace function sqlkit._column_options(p_options text[])
returns text[]
language sql
immutable
return (
    select array_agg(o)
    from unnest(p_options) as o
    where not starts_with(o, 'pg_attver=')
);

comment on function sqlkit._column_options(text[]) is
'Options that somebody has set for a column. PostgreSQL keeps the version of a row type among them (pg_attver, since the
minor releases of November 2026), which differs for each table.';


create or replace function sqlkit._privileges(p_acl aclitem[], p_kind text, p_owner oid)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $privileges$
    select
        coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'grantee', case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                    'privilege', a.privilege_type,
                    'option', a.is_grantable
                )
                order by a.grantee, a.privilege_type
            ),
            '[]'
        )
    from aclexplode(coalesce(p_acl, acldefault(p_kind::"char", p_owner))) as a
$privileges$;

comment on function sqlkit._privileges(aclitem[], text, oid) is
'Who may do what with an object of a kind (as acldefault() calls it), whoever granted it.';


create or replace function sqlkit._signature(p_target regclass)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $signature$
    select jsonb_build_object(
        'table', jsonb_build_object(
            'kind', c.relkind, 'persistence', c.relpersistence, 'owner', c.relowner::regrole,
            'access method', m.amname, 'tablespace', c.reltablespace, 'options', c.reloptions,
            'toast options', t.reloptions, 'row security', c.relrowsecurity, 'forced', c.relforcerowsecurity,
            'replica identity', c.relreplident, 'comment', obj_description(c.oid, 'pg_class'),
            'privileges', sqlkit._privileges(c.relacl, 'r', c.relowner)
        ),
        'columns', (
            select jsonb_agg(
                jsonb_build_object(
                    'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'collation', a.attcollation,
                    'not null', a.attnotnull, 'identity', a.attidentity, 'generated', a.attgenerated,
                    'default', pg_get_expr(d.adbin, d.adrelid), 'storage', a.attstorage,
                    'compression', a.attcompression, 'statistics', nullif(to_jsonb(a) ->> 'attstattarget', '-1'),
                    'options', sqlkit._column_options(a.attoptions), 'comment', col_description(c.oid, a.attnum),
                    'privileges', sqlkit._privileges(a.attacl, 'c', c.relowner)
                )
                order by a.attnum
            )
            from pg_attribute as a
            left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        ),
        'constraints', (
            select jsonb_object_agg(
                k.conname,
                jsonb_build_array(
                    k.contype, pg_get_constraintdef(k.oid), k.convalidated,
                    obj_description(k.oid, 'pg_constraint')
                )
            )
            from pg_constraint as k
            where k.conrelid = c.oid and k.contype <> 't'
        ),
        'indexes', (
            select jsonb_object_agg(
                x.relname,
                jsonb_build_array(
                    pg_get_indexdef(x.oid), x.reltablespace, i.indisclustered, i.indisreplident, i.indimmediate,
                    obj_description(x.oid, 'pg_class'),
                    (
                        select jsonb_agg(nullif(to_jsonb(a) ->> 'attstattarget', '-1') order by a.attnum)
                        from pg_attribute as a
                        where a.attrelid = x.oid
                    )
                )
            )
            from pg_index as i
            join pg_class as x on x.oid = i.indexrelid
            where i.indrelid = c.oid
        ),
        'triggers', (
            select jsonb_object_agg(
                g.tgname,
                jsonb_build_array(pg_get_triggerdef(g.oid), g.tgenabled, obj_description(g.oid, 'pg_trigger'))
            )
            from pg_trigger as g
            where g.tgrelid = c.oid and not g.tgisinternal
        ),
        'rules', (
            select jsonb_object_agg(
                w.rulename,
                jsonb_build_array(pg_get_ruledef(w.oid), w.ev_enabled, obj_description(w.oid, 'pg_rewrite'))
            )
            from pg_rewrite as w
            where w.ev_class = c.oid
        ),
        'policies', (
            select jsonb_object_agg(
                p.polname,
                jsonb_build_array(
                    p.polcmd, p.polpermissive, p.polroles, pg_get_expr(p.polqual, p.polrelid),
                    pg_get_expr(p.polwithcheck, p.polrelid), obj_description(p.oid, 'pg_policy')
                )
            )
            from pg_policy as p
            where p.polrelid = c.oid
        ),
        'statistics', (
            select jsonb_object_agg(
                format('%I.%I', n.nspname, e.stxname),
                jsonb_build_array(
                    pg_get_statisticsobjdef_columns(e.oid), e.stxkind, e.stxowner::regrole,
                    nullif(to_jsonb(e) ->> 'stxstattarget', '-1'), obj_description(e.oid, 'pg_statistic_ext')
                )
            )
            from pg_statistic_ext as e
            join pg_namespace as n on n.oid = e.stxnamespace
            where e.stxrelid = c.oid
        ),
        'publications', (
            select jsonb_object_agg(
                p.pubname,
                jsonb_build_array(
                    (
                        select jsonb_agg(a.attname order by a.attname)
                        from pg_attribute as a
                        where a.attrelid = c.oid and a.attnum = any(r.prattrs::smallint[])
                    ),
                    pg_get_expr(r.prqual, r.prrelid)
                )
            )
            from pg_publication_rel as r
            join pg_publication as p on p.oid = r.prpubid
            where r.prrelid = c.oid
        ),
        'sequences', (
            select jsonb_object_agg(
                format('%I.%I', n.nspname, s.relname),
                jsonb_build_array(
                    a.attname, q.seqtypid::regtype, q.seqstart, q.seqincrement, q.seqmax, q.seqmin, q.seqcache,
                    q.seqcycle, s.relpersistence, obj_description(s.oid, 'pg_class'),
                    sqlkit._privileges(s.relacl, 's', s.relowner), s.relowner::regrole
                )
            )
            from pg_depend as d
            join pg_class as s on s.oid = d.objid and s.relkind = 'S'
            join pg_namespace as n on n.oid = s.relnamespace
            join pg_sequence as q on q.seqrelid = s.oid
            join pg_attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
            where
                d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
                and d.refobjid = c.oid and d.deptype in ('a', 'i')
        )
    )
    from pg_class as c
    left join pg_am as m on m.oid = c.relam
    left join pg_class as t on t.oid = c.reltoastrelid
    where c.oid = p_target
$signature$;

comment on function sqlkit._signature(regclass) is
'Everything that a table is, but its rows and the numbers of its objects.';


create or replace function sqlkit._grants(
    p_relation text,
    p_acl aclitem[],
    p_kind text,
    p_owner oid,
    p_present aclitem[]
)
returns text[]
language sql
stable
return (
    -- Nothing said, on both sides: nothing to say.
    select case
        when p_acl is null and p_present is null then '{}'
        else array(
            select format('revoke all on %s from %s', p_relation, g.grantee)
            from (
                select distinct p ->> 'grantee' as grantee
                from jsonb_array_elements(sqlkit._privileges(p_present, p_kind, p_owner)) as p
            ) as g
        )
        || array(
            select format(
                'grant %s on %s to %s%s',
                p ->> 'privilege',
                p_relation,
                p ->> 'grantee',
                case when (p ->> 'option')::boolean then ' with grant option' else '' end
            )
            from jsonb_array_elements(sqlkit._privileges(p_acl, p_kind, p_owner)) as p
        )
    end
);

comment on function sqlkit._grants(text, aclitem[], text, oid, aclitem[]) is
'Statements that give an object the privileges of another, and take away those that it was made with.';
