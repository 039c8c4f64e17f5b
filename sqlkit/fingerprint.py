"""What sqlkit looks like in a catalog: every object with the facts that a deployment decides.

Two databases with equal fingerprints have the same schema, whatever way it came there and whatever
the objects' oids are. The name of the owner does not count, only that it is one and the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from sqlkit.compatible import version_key

Facts = dict[str, Any]
Fingerprint = dict[str, Facts]
"""Identity of an object, as ``function sqlkit.version()``, to its facts."""

ROLES = ("sqlkit_admin", "sqlkit_loader", "sqlkit_reader")
"""Roles that a server may lack: what is granted to them counts only where they exist."""

LONG = 120
"""Longer texts are kept as digests: equality is all that is asked of them."""

# Names are written out in full, since search_path holds nothing but pg_catalog: see `take`.
# Grants are sorted later, and the owner becomes "owner".
QUERIES = {
    "schema": """
        select format('schema %I', n.nspname), jsonb_build_object(
            'owner', n.nspowner,
            'comment', obj_description(n.oid, 'pg_namespace'),
            'acl', coalesce(n.nspacl, acldefault('n', n.nspowner))::text[]
        )
        from pg_namespace as n
        where n.nspname in ('sqlkit', 'sqlkit_stage')
    """,
    "relation": """
        select
            format(
                '%s %I.%I',
                case c.relkind
                    when 'S' then 'sequence' when 'v' then 'view' when 'm' then 'materialized view'
                    when 'c' then 'composite type' when 'f' then 'foreign table' else 'table'
                end,
                n.nspname, c.relname
            ),
            jsonb_build_object(
                'owner', c.relowner,
                'comment', case
                    when c.relkind = 'c' then obj_description(c.reltype, 'pg_type')
                    else obj_description(c.oid, 'pg_class')
                end,
                'persistence', c.relpersistence,
                'options', c.reloptions,
                'row_security', c.relrowsecurity or c.relforcerowsecurity,
                'partition', pg_get_partkeydef(c.oid),
                'bound', pg_get_expr(c.relpartbound, c.oid),
                'definition', case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) end,
                'sequence', (
                    select jsonb_build_array(
                        s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax, s.seqmin,
                        s.seqcache, s.seqcycle
                    )
                    from pg_sequence as s
                    where s.seqrelid = c.oid
                ),
                'acl', case when c.relkind <> 'c' then coalesce(
                    c.relacl,
                    acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner)
                )::text[]
                -- Of types only what somebody changed, since releases change nothing.
                else (select t.typacl::text[] from pg_type as t where t.oid = c.reltype) end
            )
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'sqlkit' and c.relkind not in ('i', 'I', 't')
            and c.relname <> 'alembic_version'
    """,
    "column": """
        select format('column %I.%I.%I', n.nspname, c.relname, a.attname), jsonb_build_object(
            'position', row_number() over (partition by c.oid order by a.attnum),
            'type', format_type(a.atttypid, a.atttypmod),
            'not_null', a.attnotnull,
            'default', pg_get_expr(d.adbin, d.adrelid),
            'identity', a.attidentity,
            'generated', a.attgenerated,
            'collation', case
                when a.attcollation <> t.typcollation then a.attcollation::regcollation::text
            end,
            'storage', a.attstorage,
            'comment', col_description(c.oid, a.attnum),
            'acl', coalesce(a.attacl, '{}')::text[]
        )
        from pg_attribute as a
        join pg_class as c on c.oid = a.attrelid
        join pg_namespace as n on n.oid = c.relnamespace
        join pg_type as t on t.oid = a.atttypid
        left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where n.nspname = 'sqlkit' and c.relkind in ('r', 'p', 'v', 'm', 'c', 'f')
            and a.attnum > 0 and not a.attisdropped
            and c.relname <> 'alembic_version'
    """,
    "constraint": """
        select
            format(
                'constraint %I.%I.%I', n.nspname, coalesce(c.relname, t.typname), k.conname
            ),
            jsonb_build_object(
                'definition', pg_get_constraintdef(k.oid),
                'validated', k.convalidated,
                'comment', obj_description(k.oid, 'pg_constraint')
            )
        from pg_constraint as k
        join pg_namespace as n on n.oid = k.connamespace
        left join pg_class as c on c.oid = k.conrelid
        left join pg_type as t on t.oid = k.contypid
        -- Not null is a fact of the column; only PostgreSQL 18 makes constraints of it.
        where n.nspname = 'sqlkit' and k.contype not in ('n', 't')
            and c.relname is distinct from 'alembic_version'
    """,
    "index": """
        select format('index %I.%I', n.nspname, i.relname), jsonb_build_object(
            'definition', pg_get_indexdef(x.indexrelid),
            'valid', x.indisvalid,
            'comment', obj_description(i.oid, 'pg_class')
        )
        from pg_index as x
        join pg_class as i on i.oid = x.indexrelid
        join pg_class as c on c.oid = x.indrelid
        join pg_namespace as n on n.oid = i.relnamespace
        where n.nspname = 'sqlkit' and c.relkind <> 't' and c.relname <> 'alembic_version'
    """,
    "function": """
        select
            format(
                '%s %I.%I(%s)',
                case p.prokind
                    when 'p' then 'procedure' when 'a' then 'aggregate' else 'function'
                end,
                n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)
            ),
            jsonb_build_object(
                'owner', p.proowner,
                'comment', obj_description(p.oid, 'pg_proc'),
                'arguments', pg_get_function_arguments(p.oid),
                'result', pg_get_function_result(p.oid),
                'body', coalesce(pg_get_function_sqlbody(p.oid), p.prosrc),
                'language', (select l.lanname from pg_language as l where l.oid = p.prolang),
                'volatility', p.provolatile,
                'parallel', p.proparallel,
                'strict', p.proisstrict,
                'leakproof', p.proleakproof,
                'security_definer', p.prosecdef,
                'cost', p.procost,
                'rows', p.prorows,
                'settings', p.proconfig,
                'acl', coalesce(p.proacl, acldefault('f', p.proowner))::text[]
            )
        from pg_proc as p
        join pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = 'sqlkit'
    """,
    "type": """
        select format('type %I.%I', n.nspname, t.typname), jsonb_build_object(
            'owner', t.typowner,
            'comment', obj_description(t.oid, 'pg_type'),
            'kind', t.typtype,
            'labels', (
                select jsonb_agg(e.enumlabel order by e.enumsortorder)
                from pg_enum as e
                where e.enumtypid = t.oid
            ),
            'base', nullif(t.typbasetype, 0)::regtype,
            'not_null', t.typnotnull,
            'default', t.typdefault,
            'acl', t.typacl::text[]
        )
        from pg_type as t
        join pg_namespace as n on n.oid = t.typnamespace
        where n.nspname = 'sqlkit' and t.typtype in ('e', 'd', 'r')
    """,
    "trigger": """
        select format('trigger %I.%I.%I', n.nspname, c.relname, t.tgname), jsonb_build_object(
            'definition', pg_get_triggerdef(t.oid),
            'enabled', t.tgenabled,
            'comment', obj_description(t.oid, 'pg_trigger')
        )
        from pg_trigger as t
        join pg_class as c on c.oid = t.tgrelid
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'sqlkit' and not t.tgisinternal
    """,
    "rule": """
        select format('rule %I.%I.%I', n.nspname, c.relname, r.rulename), jsonb_build_object(
            'definition', pg_get_ruledef(r.oid),
            'enabled', r.ev_enabled
        )
        from pg_rewrite as r
        join pg_class as c on c.oid = r.ev_class
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'sqlkit' and r.rulename <> '_RETURN'
    """,
    "policy": """
        select format('policy %I.%I.%I', n.nspname, c.relname, p.polname), jsonb_build_object(
            'command', p.polcmd,
            'permissive', p.polpermissive,
            'using', pg_get_expr(p.polqual, p.polrelid),
            'check', pg_get_expr(p.polwithcheck, p.polrelid)
        )
        from pg_policy as p
        join pg_class as c on c.oid = p.polrelid
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'sqlkit'
    """,
    "statistics": """
        select format('statistics %I.%I', n.nspname, s.stxname), jsonb_build_object(
            'owner', s.stxowner,
            'definition', pg_get_statisticsobjdef(s.oid)
        )
        from pg_statistic_ext as s
        join pg_namespace as n on n.oid = s.stxnamespace
        where n.nspname = 'sqlkit'
    """,
}

NOT_MEMBERS = """
    select pg_describe_object(m.classid, m.objid, 0)
    from (
        select 'pg_proc'::regclass as classid, p.oid as objid
        from pg_proc as p
        where p.pronamespace = 'sqlkit'::regnamespace
        union all
        select 'pg_class'::regclass, c.oid
        from pg_class as c
        where c.relnamespace = 'sqlkit'::regnamespace and c.relkind in ('r', 'v', 'm', 'p', 'f')
    ) as m
    where not exists (
        select
        from pg_depend as d
        join pg_extension as e on e.oid = d.refobjid
        where d.classid = m.classid and d.objid = m.objid and d.deptype = 'e'
            and d.refclassid = 'pg_extension'::regclass and e.extname = 'sqlkit'
    )
    order by 1
"""
"""Objects in our schema that the extension does not know, and pg_dump would treat as foreign."""


def take(connection: psycopg.Connection) -> Fingerprint:
    """The fingerprint of what is deployed; empty where nothing is.

    Runs inside the caller's transaction and leaves its search_path as it was.
    """
    row = connection.execute("select pg_catalog.current_setting('search_path')").fetchone()
    assert row is not None
    # PostgreSQL writes names in definitions without their schema where the path finds them.
    connection.execute("select pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)")
    try:
        owner_row = connection.execute(
            """
            select n.nspowner, quote_ident(pg_get_userbyid(n.nspowner))
            from pg_namespace as n
            where n.nspname = 'sqlkit'
            """
        ).fetchone()
        if owner_row is None:
            return {}
        owner, owner_name = owner_row
        names: dict[int, str] = dict(
            connection.execute("select oid, rolname from pg_roles").fetchall()
        )
        found: Fingerprint = {}
        for query in QUERIES.values():
            for identity, facts in connection.execute(query.encode()).fetchall():
                if "owner" in facts:
                    role = int(facts["owner"])
                    facts["owner"] = "owner" if role == owner else names.get(role, str(role))
                if "acl" in facts:
                    facts["grants"] = _grants(facts.pop("acl"), owner_name)
                found[identity] = {
                    name: _short(value)
                    for name, value in sorted(facts.items())
                    if value not in (None, "", [])
                }
        return dict(sorted(found.items()))
    finally:
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS:
            connection.execute("select pg_catalog.set_config('search_path', %s, true)", row)


def _grants(acl: list[str] | None, owner: str) -> list[str]:
    """Entries as ``grantee=privileges``, sorted, without grantors: who granted is an accident of
    the way, and a member of the owner may do it."""
    entries = []
    for entry in acl or []:
        grantee, _, rest = entry.rpartition("=")
        privileges = rest.partition("/")[0]
        if grantee == owner:
            grantee = "owner"
        # PostgreSQL 17 brought MAINTAIN (m), which an owner has of itself.
        if grantee == "owner":
            privileges = privileges.replace("m", "")
        entries.append(f"{grantee or 'public'}={privileges}")
    return sorted(entries)


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONG:
        return "sha256:" + hashlib.sha256(value.encode()).hexdigest()
    return value


# What a release ships ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """One fact in which a database differs from the release.

    `fact` is None where the whole object is missing or too much; `expected` and `found` are None
    where there is nothing.
    """

    object: str
    fact: str | None
    expected: Any
    found: Any

    def __str__(self) -> str:
        if self.fact is None:
            return f"{self.object}: " + ("missing" if self.found is None else "not part of sqlkit")
        return f"{self.object}: {self.fact} is {self.found!r}, should be {self.expected!r}"


def differences(expected: Fingerprint, found: Fingerprint) -> list[Difference]:
    """Every difference, by object and fact."""
    result = []
    for identity in sorted(expected.keys() | found.keys()):
        wanted, present = expected.get(identity), found.get(identity)
        if wanted is None:
            result.append(Difference(identity, None, None, "present"))
        elif present is None:
            result.append(Difference(identity, None, "present", None))
        else:
            result.extend(
                Difference(identity, fact, wanted.get(fact), present.get(fact))
                for fact in sorted(wanted.keys() | present.keys())
                if wanted.get(fact) != present.get(fact)
            )
    return result


def pack(version: str, script: str, by_major: Mapping[int, Fingerprint]) -> str:
    """The file that a release ships: the newest major's fingerprint, and what differs on others.

    `script` is the text of the script that was deployed; its digest tells whether the file is
    current.

    PostgreSQL's majors write some definitions differently, so that one fingerprint cannot serve
    them all.
    """
    newest = by_major[max(by_major)]
    variants: dict[str, dict[str, Facts | None]] = {}
    for major, fingerprint in sorted(by_major.items()):
        changed: dict[str, Facts | None] = {}
        for identity in sorted(newest.keys() | fingerprint.keys()):
            if newest.get(identity) != fingerprint.get(identity):
                changed[identity] = fingerprint.get(identity)
        variants[str(major)] = changed
    document = {
        "version": version,
        "script_sha256": hashlib.sha256(script.encode()).hexdigest(),
        "objects": newest,
        "majors": variants,
    }
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def is_recorded_from(text: str, script: str) -> bool:
    """Whether a packed fingerprint was taken from what this script deploys."""
    digest = hashlib.sha256(script.encode()).hexdigest()
    return bool(json.loads(text).get("script_sha256") == digest)


def unpack(text: str, major: int) -> Fingerprint:
    """What a database of that major version should look like.

    A major that the release did not know is compared with the newest that it knew, which finds
    every real difference and may name definitions that this major only writes differently.
    """
    document = json.loads(text)
    known = sorted(int(name) for name in document["majors"])
    nearest = min(known, key=lambda one: (abs(one - major), -one))
    expected: Fingerprint = dict(document["objects"])
    for identity, facts in document["majors"][str(nearest)].items():
        if facts is None:
            expected.pop(identity, None)
        else:
            expected[identity] = facts
    return expected


LATER = {("composite type ", "comment"): (0, 3, 0)}
"""Facts, of objects whose identity begins so, that fingerprints of earlier releases lack."""


def as_recorded(found: Fingerprint, version: str) -> Fingerprint:
    """What was found, without facts that the fingerprint of that release does not know of."""
    unknown = {place for place, since in LATER.items() if version_key(version) < since}
    return {
        identity: {
            fact: value
            for fact, value in facts.items()
            if not any(identity.startswith(kind) and fact == name for kind, name in unknown)
        }
        for identity, facts in found.items()
    }


def without_roles(fingerprint: Fingerprint, present: set[str]) -> Fingerprint:
    """The fingerprint as it is on a server that has only the roles `present` of `ROLES`."""
    absent = [role for role in ROLES if role not in present]

    def kept(grants: list[str]) -> Iterator[str]:
        for grant in grants:
            if grant.rpartition("=")[0] not in absent:
                yield grant

    result: Fingerprint = {}
    for identity, facts in fingerprint.items():
        changed = dict(facts)
        if "grants" in facts:
            changed["grants"] = list(kept(facts["grants"]))
            if not changed["grants"]:
                del changed["grants"]
        result[identity] = changed
    return result
