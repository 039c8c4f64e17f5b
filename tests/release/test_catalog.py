"""The rules for SQL that only the catalog of a deployed database can be asked about."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sqlkit import build
from tests.conftest import Database, missing

ROOT = Path(__file__).parents[2]

SECURITY_DEFINER: dict[str, str] = {
    "sqlkit._drop_conflicts()": "who drops a rule may not delete single conflicts",
    "sqlkit._note_changed_keys()": "a dimension's writers need no rights on sqlkit's tables",
}
"""Functions that run with their owner's rights, and why they have to. Everything else runs with
the rights of whoever calls it."""

COMMITTING: set[str] = {
    "sqlkit.refresh(regclass,text,regclass,text,name[],double precision,bigint,name[],bigint,"
    "bigint,text,boolean,text,bigint,bigint,bigint,bigint,bigint,bigint,bigint)",
    "sqlkit.run_maintenance(regclass[],text[],interval,interval,bigint,interval,bigint)",
}
"""Procedures that commit cannot pin search_path; they write every name out in full instead."""


TEMPORARY = (
    "create temporary table sqlkit_difference"
    " (sqlkit_ctid tid, sqlkit_is_wanted boolean, sqlkit_is_staged boolean)",
    "create temporary table sqlkit_refused"
    " (line bigint, column_name name, sqlstate text, message text)",
    "create temporary table sqlkit_sound (sqlkit_line bigint)",
    "create temporary table sqlkit_behind (sqlkit_line bigint)",
    "create temporary table sqlkit_free (sqlkit_line bigint)",
    "create temporary table sqlkit_query (id integer)",
    "create temporary table sqlkit_covered (sqlkit_ctid tid)",
    "create temporary table sqlkit_event (sqlkit_round bigint)",
    "create temporary table sqlkit_version (sqlkit_is_correction boolean)",
    "create temporary table sqlkit_unmet (sqlkit_table oid, sqlkit_ctid tid)",
    "create temporary table sqlkit_changed (is_changed boolean)",
    "create temporary table sqlkit_touched (resource jsonb)",
    "create temporary table sqlkit_resolved (sqlkit_is_resolved boolean)",
    "create temporary table sqlkit_trimmed (line bigint, rule text, message text, span_before text,"
    " span_after text)",
    "create temporary table sqlkit_meeting"
    " (sqlkit_row bigint, sqlkit_line bigint, sqlkit_who text)",
    "create temporary table sqlkit_staged (sqlkit_line bigint)",
    "create temporary table sqlkit_told"
    " (sqlkit_first_line bigint, sqlkit_last_line bigint, sqlkit_raw text)",
    "create temporary table sqlkit_secret (option_name text, secret text)",
    "create temporary table sqlkit_met (first_row bigint, second_row bigint)",
    "create temporary table sqlkit_yielded (sqlkit_row bigint, other_row bigint,"
    " is_refused boolean, span text)",
    "create temporary table sqlkit_typed ()",
    "create temporary table sqlkit_followed (changed_in xid8, updated_at timestamptz)",
    "create temporary table sqlkit_seen (sqlkit_row bigint)",
    "create temporary table sqlkit_failing (line bigint, sqlstate text, message text)",
    "create temporary table sqlkit_found (conflict_id bigint, known_resource jsonb,"
    " resource jsonb, first_key jsonb, second_key jsonb,"
    " measure double precision, facts jsonb)",
)
"""Tables that functions make for themselves and then read; plpgsql_check has to find them."""

COMPOSING = {
    "_changed_share",
    "_constant_values",
    "_count_repeated",
    "_count_rows",
    "_create_keys",
    "_define_rule",
    "_find_difference",
    "_read_constraint",
    "add_lookup",
    "check_constraint",
    "check_server",
    "compare_tables",
    "copy_table",
    "_create_copy",
    "_exchange",
    "_fill_copy",
    "_fill_ids",
    "_find_incoming",
    "_find_unmet",
    "_find_versions",
    "_find_touched",
    "_input_error",
    "_map_user",
    "_merge",
    "_merge_history",
    "_build_index",
    "_refuse_doubled_pairs",
    "_refuse_existing",
    "_refuse_input",
    "_refuse_by_unique",
    "_refuse_keys",
    "_take_back_behind",
    "_refuse_where",
    "_switch_autovacuum_back",
    "_tell_missing_keys",
    "_update_conflicts",
    "_write",
    "_yield_to_met",
    "create_stage",
    "add_columns",  # a type has to be one to regtype before
    "detect_conflicts",
    "drop_server",
    "empty_stages",
    "finish_first_load",
    "_mark_of",
    # The query is the caller's own SQL, run with the caller's own rights.
    "stage_query",
    "_query_columns",
    "_refuse_failing",
    "_stage_carefully",
    "resolve_values",
}
"""Functions that execute fragments which format() built from quoted names: plpgsql_check cannot
follow that. Before a name is added here, somebody has read the function for injection."""


def rows(connection: psycopg.Connection, query: str) -> list[tuple[str, ...]]:
    return [tuple(row) for row in connection.execute(query.encode()).fetchall()]


def names(connection: psycopg.Connection, query: str) -> set[str]:
    return {row[0] for row in rows(connection, query)}


@pytest.mark.every_version
def test_every_public_object_says_what_it_is_for(connection: psycopg.Connection) -> None:
    silent = names(
        connection,
        """
        select 'schema ' || nspname from pg_namespace
        where nspname in ('sqlkit', 'sqlkit_stage') and obj_description(oid, 'pg_namespace') is null
        union all
        select 'relation ' || oid::regclass from pg_class
        where relnamespace = 'sqlkit'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f')
            and relname <> 'alembic_version' and obj_description(oid, 'pg_class') is null
        union all
        select 'type ' || t.oid::regtype from pg_type as t join pg_class as c on c.oid = t.typrelid
        where t.typnamespace = 'sqlkit'::regnamespace and c.relkind = 'c'
            and obj_description(t.oid, 'pg_type') is null
        union all
        select 'routine ' || oid::regprocedure from pg_proc
        where pronamespace = 'sqlkit'::regnamespace and obj_description(oid, 'pg_proc') is null
        """,
    )
    assert silent == set()


@pytest.mark.every_version
def test_a_comment_names_the_codes_that_its_function_raises(connection: psycopg.Connection) -> None:
    """What the body raises itself; what it calls has comments of its own."""
    untold = {
        f"{name} raises {code}"
        for name, source, comment in rows(
            connection,
            """
            select oid::regprocedure::text, prosrc, coalesce(obj_description(oid, 'pg_proc'), '')
            from pg_proc where pronamespace = 'sqlkit'::regnamespace
            """,
        )
        for code in set(re.findall(r"errcode = '(\w{5})'", source))
        if code not in comment
    }
    assert untold == set()


@pytest.mark.every_version
def test_every_code_is_in_the_list_of_errors(connection: psycopg.Connection) -> None:
    listed = set(build.read_toml(ROOT, "errors.toml"))
    raised = {
        code
        for (source,) in rows(
            connection,
            "select prosrc from pg_proc where pronamespace = 'sqlkit'::regnamespace",
        )
        for code in re.findall(r"'(SK\d{3})'", source)
    }
    assert raised - listed == set()


def codes_in_python(path: Path) -> Iterator[str]:
    """Codes of ours that a test asserts, by itself or as its parameter."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            asserted = [*node.decorator_list, *(n for n in ast.walk(node) if is_assertion(n))]
            for one in asserted:
                yield from re.findall(r"SK\d{3}", ast.unparse(one))


def is_assertion(node: ast.AST) -> bool:
    return isinstance(node, ast.Assert) or (
        isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("pytest.raises", "check"))
    )


def codes_in_sql(path: Path, kind: str = r"throws_ok\(") -> Iterator[str]:
    """Codes that a pgTAP test wants raised, or recorded."""
    for statement in re.split(r";\n", path.read_text()):
        if re.search(kind, statement):
            yield from re.findall(r"'(\w{5})'", statement)


def test_every_error_of_the_list_is_wanted_by_some_test() -> None:
    tests = ROOT / "tests"
    wanted = {
        code
        for path in tests.rglob("test_*.py")
        for code in codes_in_python(path)
        if path.parent.name != "bench"
    }
    wanted |= {
        code
        for path in (tests / "sql").rglob("*.sql")
        for code in codes_in_sql(path, r"(throws_ok|results_eq)\(")
    }
    assert set(build.read_toml(ROOT, "errors.toml")) - wanted == set()


# Functions, procedures and views that people call; in the catalog, so that nobody can forget one.
CALLED = """
    select p.proname::text as name, coalesce(obj_description(p.oid, 'pg_proc'), '') as comment
    from pg_proc as p
    where p.pronamespace = 'sqlkit'::regnamespace and p.proname not like '\\_%'
"""


IN_THE_MAKING: set[str] = set()
"""What is new in this release, and whose SQL tests are not complete yet. Empty at a release."""


def test_nothing_is_in_the_making_at_a_release() -> None:
    assert not (IN_THE_MAKING and build.read_releases(ROOT)[-1].released)


def sql_tests(name: str) -> list[Path]:
    """The SQL tests of a function or view: tests/sql/<topic>/<name>/."""
    return sorted((ROOT / "tests" / "sql").glob(f"*/{name}/*.sql"))


def test_every_function_and_view_has_sql_tests(connection: psycopg.Connection) -> None:
    called = names(
        connection,
        f"""
        select c.name from ({CALLED}) as c
        union
        select v.relname from pg_class as v
        where v.relnamespace = 'sqlkit'::regnamespace and v.relkind in ('v', 'm')
            and v.relname not like '\\_%'
        """,
    )
    assert {name for name in called if not sql_tests(name)} - IN_THE_MAKING == set()


def test_every_error_that_a_comment_tells_of_is_wanted_by_a_test_of_that_function(
    connection: psycopg.Connection,
) -> None:
    listed = sorted(build.read_toml(ROOT, "errors.toml"))
    untested = set()
    for name, comment in rows(connection, CALLED):
        told = comment.partition("Raises:")[2]
        codes = set(re.findall(r"\b(?:SK\d{3}|\d{2}[0-9A-Z]{3})\b", told))
        for first, last in re.findall(r"(SK\d{3}) to (SK\d{3})", told):
            codes |= {code for code in listed if first <= code <= last}
        wanted = {code for path in sql_tests(name) for code in codes_in_sql(path)}
        if name not in IN_THE_MAKING:
            untested |= {f"{name} raises {code}" for code in codes - wanted}
    assert untested == set()


def test_every_function_that_takes_a_name_is_called_with_odd_ones(
    connection: psycopg.Connection,
) -> None:
    """In tests/sql/odd_identifiers.sql, or in a file of that name among the tests of a function."""
    files = (ROOT / "tests" / "sql").rglob("odd_identifiers.sql")
    together = "".join(path.read_text() for path in files)
    taking = names(
        connection,
        f"""
        select c.name from ({CALLED}) as c
        where exists (
            select from pg_proc as p
            where p.pronamespace = 'sqlkit'::regnamespace and p.proname = c.name
                and string_to_array(p.proargtypes::text, ' ')::oid[]
                    && '{{regclass,_regclass,name,_name}}'::regtype[]::oid[]
        )
        """,
    )
    assert {
        name
        for name in taking - IN_THE_MAKING
        if f"sqlkit.{name}(" not in together
        and not any(path.name == "odd_identifiers.sql" for path in sql_tests(name))
    } == set()


@pytest.mark.every_version
def test_procedural_functions_pin_their_search_path(connection: psycopg.Connection) -> None:
    loose = names(
        connection,
        """
        select p.oid::regprocedure::text from pg_proc as p
        join pg_language as l on l.oid = p.prolang
        where p.pronamespace = 'sqlkit'::regnamespace and p.prosqlbody is null
            and (
                p.proconfig is null
                or 'search_path=pg_catalog, pg_temp' <> all (p.proconfig)
            )
        """,
    )
    # A new-style body was parsed when it was made: no search_path can change what it means.
    assert loose == COMMITTING


@pytest.mark.every_version
def test_no_function_holds_up_changes_of_a_table(connection: psycopg.Connection) -> None:
    """A body that PostgreSQL keeps parsed forbids to alter a table whose row type is in it."""
    found = connection.execute(
        """
        select distinct p.oid::regprocedure::text
        from pg_proc as p
        cross join unnest(p.proargtypes::oid[] || p.prorettype) as a (type)
        join pg_type as t on t.oid = a.type
        join pg_class as c on c.oid = t.typrelid and c.relkind in ('r', 'p')
        where p.pronamespace = 'sqlkit'::regnamespace and p.prosqlbody is not null"""
    ).fetchall()
    assert found == []


@pytest.mark.every_version
def test_functions_run_with_the_rights_of_their_caller(connection: psycopg.Connection) -> None:
    assert names(
        connection,
        """
        select oid::regprocedure::text from pg_proc
        where pronamespace = 'sqlkit'::regnamespace and prosecdef
        """,
    ) == set(SECURITY_DEFINER)


@pytest.mark.every_version
def test_constraints_have_names_that_somebody_gave_them(connection: psycopg.Connection) -> None:
    odd = [
        (table, name)
        for table, name, kind, columns in rows(
            connection,
            """
            select c.relname::text, k.conname::text, k.contype::text, (
                select string_agg(a.attname, '_' order by o.n)
                from unnest(k.conkey) with ordinality as o (attnum, n)
                join pg_attribute as a on a.attrelid = k.conrelid and a.attnum = o.attnum
            )
            from pg_constraint as k
            join pg_class as c on c.oid = k.conrelid
            where k.connamespace = 'sqlkit'::regnamespace and c.relname <> 'alembic_version'
                and k.contype not in ('n', 't')
            """,
        )
        if not {
            "p": name == f"{table}_pkey",
            "u": name == f"{table}_{columns}_key",
            "f": name == f"{table}_{columns}_fkey",
            "x": name.startswith(f"{table}_") and name.endswith("_excl"),
            "c": name.startswith(f"{table}_")
            and name.endswith("_check")
            and not re.search(r"_check\d+$", name),
        }[kind]
    ]
    assert odd == []


@pytest.mark.every_version
def test_identifiers_keep_to_their_prefixes(connection: psycopg.Connection) -> None:
    assert (
        names(
            connection,
            """
            select p.oid::regprocedure || ': ' || a.name
            from pg_proc as p, unnest(p.proargnames, p.proargmodes) as a (name, mode)
            where p.pronamespace = 'sqlkit'::regnamespace
                and coalesce(a.mode, 'i') in ('i', 'v') and a.name !~ '^p_[a-z_0-9]+$'
            """,
        )
        == set()
    )
    assert (
        names(
            connection,
            """
            select c.relname || '.' || a.attname
            from pg_attribute as a
            join pg_class as c on c.oid = a.attrelid
            where c.relnamespace = 'sqlkit'::regnamespace and c.relkind in ('r', 'p')
                and a.attnum > 0 and not a.attisdropped
                and (
                    (a.attname like '%\\_at') <> (a.atttypid = 'timestamptz'::regtype)
                    or a.atttypid = 'timestamp'::regtype
                )
            """,
        )
        == set()
    )


@pytest.mark.every_version
def test_tables_have_keys_and_references_have_indexes(connection: psycopg.Connection) -> None:
    assert (
        names(
            connection,
            """
            select c.relname::text from pg_class as c
            where c.relnamespace = 'sqlkit'::regnamespace and c.relkind in ('r', 'p')
                and not exists (
                    select from pg_index as i where i.indrelid = c.oid and i.indisprimary
                )
            """,
        )
        == set()
    )
    # Without one, deleting from the table referred to reads all of this one, and locks long.
    assert (
        names(
            connection,
            """
            select k.conname::text from pg_constraint as k
            where k.connamespace = 'sqlkit'::regnamespace and k.contype = 'f' and not exists (
                select from pg_index as i
                where i.indrelid = k.conrelid and i.indkey[0] = k.conkey[1]
            )
            """,
        )
        == set()
    )


@pytest.mark.every_version
def test_functions_that_write_are_volatile(connection: psycopg.Connection) -> None:
    liars = [
        name
        for name, source in rows(
            connection,
            """
            select oid::regprocedure::text, prosrc from pg_proc
            where pronamespace = 'sqlkit'::regnamespace and provolatile <> 'v'
            """,
        )
        if re.search(r"^\s*(insert|update|delete|merge|create|drop|truncate)\s", source, re.M)
    ]
    assert liars == []


@pytest.mark.every_version
def test_grants_are_those_of_the_list(connection: psycopg.Connection, database: Database) -> None:
    """Read back from the catalog, independently of the script that granted."""
    script = build.render_dist(ROOT)[ROOT / "sqlkit" / "dist" / "roles.sql"]
    connection.execute(script.encode())
    sources = [path.read_text() for path in sorted((ROOT / "sql" / "changes").glob("*.sql"))]
    sources += [path.read_text() for path in sorted((ROOT / "sql" / "objects").iterdir())]
    wanted = {
        (grant.role, grant.privilege, grant.kind, grant.name)
        for grant in build.read_grants(ROOT, build.read_objects(sources))
        if grant.kind != "database"
    }
    found = set(
        rows(
            connection,
            """
            select r.rolname::text, lower(g.privilege_type), o.kind, o.name
            from (
                select 'schema', nspname::text, nspacl from pg_namespace
                where nspname in ('sqlkit', 'sqlkit_stage')
                union all
                select case relkind when 'S' then 'sequence' else 'table' end, relname, relacl
                from pg_class where relnamespace = 'sqlkit'::regnamespace
                union all
                select 'routine', proname, proacl from pg_proc
                where pronamespace = 'sqlkit'::regnamespace
            ) as o (kind, name, acl)
            cross join aclexplode(o.acl) as g
            join pg_roles as r on r.oid = g.grantee
            where r.rolname like 'sqlkit\\_%'
            """,
        )
    )
    assert found == wanted
    # And to everybody else: nothing.
    assert (
        rows(
            connection,
            """
            select o.name, g.privilege_type
            from (
                select nspname::text, nspacl from pg_namespace
                where nspname in ('sqlkit', 'sqlkit_stage')
                union all
                select relname, relacl from pg_class where relnamespace = 'sqlkit'::regnamespace
                union all
                select proname, coalesce(proacl, acldefault('f', proowner)) from pg_proc
                where pronamespace = 'sqlkit'::regnamespace
            ) as o (name, acl)
            cross join aclexplode(o.acl) as g
            where g.grantee = 0
            """,
        )
        == []
    )


@pytest.mark.every_version
def test_readers_see_every_relation_that_holds_no_rows_of_the_users(
    connection: psycopg.Connection,
) -> None:
    grants = build.read_toml(ROOT, "grants.toml")
    relations = names(
        connection,
        """
        select relname::text from pg_class
        where relnamespace = 'sqlkit'::regnamespace and relkind in ('r', 'p', 'v', 'm')
            and relname <> 'alembic_version'
        """,
    )
    # They hold raw text of rows; what is added to this set, readers do not see.
    not_for_readers = {"reject", "reject_summary", "conflict", "conflict_event", "trimmed_row"}
    assert relations - set(grants["sqlkit_reader"]["select"]) <= not_for_readers


PLANTED = {
    "a function": """
        create function sqlkit._planted() returns integer language plpgsql as $$
        begin return (select no_such_column from sqlkit.run); end $$
    """,
    "a trigger": """
        create function sqlkit._planted() returns trigger language plpgsql as $$
        begin new.run_id := no_such_function(); return new; end $$
    """,
    "a procedure": """
        create procedure sqlkit._planted() language plpgsql as $$
        declare v_unused integer; begin commit; end $$
    """,
    "a branch that is never taken": """
        create function sqlkit._planted() returns void language plpgsql as $$
        begin if false then perform 1 from no_such_table; end if; end $$
    """,
    "statements put together": """
        create function sqlkit._planted(p_text text) returns void language plpgsql as $$
        begin execute 'select ' || p_text; end $$
    """,
}


@pytest.mark.every_version
def test_plpgsql_check_has_no_complaint(connection: psycopg.Connection) -> None:
    """About any function, procedure and trigger; and it would have, about a fault."""
    available = rows(
        connection, "select 1 from pg_available_extensions where name = 'plpgsql_check'"
    )
    if not available:
        version = connection.info.server_version // 10000
        if version == 15:
            missing("plpgsql_check is not installed: tests/install-services.sh does it on Debian")
        pytest.skip(f"no plpgsql_check for PostgreSQL {version} on this machine")
    connection.execute("create extension plpgsql_check")
    for statement in TEMPORARY:
        connection.execute(statement.encode())
    assert complaints(connection) == []
    for what, statement in PLANTED.items():
        with connection.transaction(force_rollback=True):
            connection.execute(statement.encode())
            assert {name for name, *_ in complaints(connection)} == {"_planted"}, what


def complaints(connection: psycopg.Connection) -> list[tuple[str, ...]]:
    """What plpgsql_check says of everything in plpgsql, but of what is composed on purpose."""
    found = rows(
        connection,
        """
        select p.proname::text, c.lineno::text, c.level, c.message
        from pg_proc as p
        join pg_language as l on l.oid = p.prolang
        cross join plpgsql_check_function_tb(
            p.oid,
            -- A trigger is looked at with the rows of its table, or of one that it could be on.
            case
                when p.prorettype = 'trigger'::regtype
                    then coalesce(
                        (select min(tgrelid) from pg_trigger where tgfoid = p.oid),
                        'sqlkit_followed'::regclass
                    )
                else 0
            end,
            fatal_errors => false, extra_warnings => true, performance_warnings => false,
            security_warnings => true, compatibility_warnings => true
        ) as c
        where p.pronamespace = 'sqlkit'::regnamespace and l.lanname = 'plpgsql'
        """,
    )
    return [one for one in found if not (one[2] == "security" and one[0] in COMPOSING)]
