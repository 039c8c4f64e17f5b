"""``pytest --role=loader``: the tests as somebody who may only load, in hostile surroundings.

The role is a member of sqlkit_loader and nothing else: no superuser, no CREATE on the database; it
may create tables in schema public. Its search_path does not lead there, but to schema `hostile`
alone, which holds

- functions and operators with the names of those that sqlkit uses, for argument types that fit
  better than PostgreSQL's own: whoever writes ``format('%s', name)`` unqualified calls them;
- tables with the names of sqlkit's own and of catalogs; the same tables are planted in pg_temp.

``--search-path=''`` makes the path an empty one. Tests name the schema of what they load into; a
project, whose names mostly have none, says by its connection string where they lead.

A planted function raises (SQLSTATE 00666) if one of sqlkit's functions calls it, or a statement of
sqlkit's own connections. Called by a test, by pgTAP or by a trigger of a test it does what the real
one does, so that tests need not be written for it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg

from sqlkit.connection import APPLICATION_NAME

NAME = "sqlkit_test_loader"
SEARCH_PATH = "hostile"
EMPTY_PATH = "''"
SQLSTATE = "00666"

ROOT = Path(__file__).parents[1]

# Tables and catalogs that sqlkit reads: nobody may take these for them.
RELATIONS = (
    *("run", "source", "batch", "stage", "reject", "deployment", "run_summary", "reject_summary"),
    *("pg_class", "pg_attribute", "pg_index", "pg_namespace", "pg_type", "pg_constraint"),
    *("pg_trigger", "pg_locks", "pg_stat_activity", "pg_settings", "pg_database"),
)
PLANT_TEMPORARY = "".join(
    f"create temporary table {name} (planted integer);\n" for name in RELATIONS
)

# For each of them functions and operators are planted; nothing that sqlkit passes is of another.
TYPES = (
    *(
        "text",
        "name",
        "varchar",
        '"char"',
        "oid",
        "regclass",
        "regtype",
        "regnamespace",
        "smallint",
        "integer",
    ),
    *("bigint", "numeric", "double precision", "boolean", "jsonb", "json", "timestamptz"),
    *("interval", "pg_lsn", "text[]", "name[]", "regclass[]", "bigint[]", "smallint[]", "oid[]"),
)
SPELLED = {"varchar": "character varying", "timestamptz": "timestamp with time zone"}
OPERATORS = ("=", "<>", "<", ">", "<=", ">=", "||", "@>", "<@", "&&", "+", "-", "*", "->", "->>")
POLYMORPHIC = ("any", "anyelement", "anynonarray", "anycompatible", "anycompatiblenonarray")

_TRAP = f"""
create function hostile.trap(p_what text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $trap$
declare
    v_context text;
    v_caller text;
begin
    get diagnostics v_context = pg_context;
    select c.line
    into v_caller
    from regexp_split_to_table(v_context, '\\n') with ordinality as c (line, position)
    where c.line ~ '^(PL/pgSQL|SQL) function ' and c.line !~ ' function "?hostile"?\\.'
    order by c.position
    limit 1;
    if v_caller ~ ' function sqlkit\\.'
        or (v_caller is null and current_setting('application_name') = '{APPLICATION_NAME}')
    then
        raise exception 'hostile % was called by %', p_what, coalesce(v_caller, 'a statement')
            using errcode = '{SQLSTATE}';
    end if;
end
$trap$;
"""


def prepare(dsn: str, search_path: str = SEARCH_PATH) -> None:
    """Makes the role and plants what is hostile, in a database that has sqlkit. As superuser."""
    from sqlkit import migrate

    migrate.make_roles(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            f"""
            do $role$
            begin
                create role {NAME} login nosuperuser nocreatedb nocreaterole;
                alter role {NAME} set search_path = {search_path or EMPTY_PATH};
                grant sqlkit_loader to {NAME};
            exception
                when duplicate_object then null;
            end
            $role$;
            grant create on schema public to {NAME};
            create schema hostile;
            grant usage on schema hostile to public;
            """.encode()
        )
        with connection.transaction():
            connection.execute(b"set local search_path = pg_catalog, pg_temp")
            connection.execute(_TRAP.encode())
            for relation in RELATIONS:
                connection.execute(f"create table hostile.{relation} (planted integer)".encode())
            connection.execute(f"grant all on all tables in schema hostile to {NAME}".encode())
            statements = [*_functions(connection), *_operators(connection)]
            connection.execute(";\n".join(statements).encode())
            if connection.info.server_version >= 170000:
                _plant_at_login(connection)


def _plant_at_login(connection: psycopg.Connection) -> None:
    """From 17 on there is a way into the pg_temp of sessions that sqlkit opens by itself."""
    connection.execute(
        f"""
        create function hostile.plant() returns event_trigger language plpgsql as $plant$
        begin
            if current_setting('application_name') = '{APPLICATION_NAME}'
                and current_setting('transaction_read_only') = 'off'
            then
                {PLANT_TEMPORARY}
            end if;
        end
        $plant$;
        create event trigger plant on login execute function hostile.plant();
        """.encode()
    )


def used_names() -> set[str]:
    """Whatever stands before a parenthesis in sqlkit's SQL, and in Python's: functions, mostly."""
    texts = [path.read_text() for path in (ROOT / "sql").rglob("*.sql")]
    texts += [path.read_text() for path in (ROOT / "sqlkit").glob("*.py")]
    return set(re.findall(r"\b([a-z][a-z0-9_]*)\(", "\n".join(texts)))


# --------------------------------------------------------------------------------------------
# Functions
# --------------------------------------------------------------------------------------------


def _functions(connection: psycopg.Connection) -> Iterator[str]:
    """Statements that make a better match for each function that sqlkit uses."""
    found = connection.execute(
        """
        select
            p.proname,
            p.prokind::text,
            p.proretset,
            format_type(p.prorettype, null),
            array(
                select format_type(a.type, null)
                from unnest(p.proargtypes::oid[]) with ordinality as a (type, position)
                order by a.position
            ),
            p.provariadic <> 0
        from pg_proc as p
        where
            p.pronamespace = 'pg_catalog'::regnamespace
            and p.proname = any(%s)
            and p.pronargs between 1 and 4
            and p.prokind in ('f', 'a')
            -- Those with OUT parameters return a record, and have no types to choose.
            and p.proargmodes is null
            or (p.proname = 'format' and p.pronargs = 2)
        order by p.proname, p.oid
        """,
        [sorted(used_names())],
    ).fetchall()
    known = {(name, tuple(types)) for name, _, _, _, types, _ in found}
    for name, kind, is_set, result, types, is_variadic in found:
        for variant in _variants(types, is_variadic):
            signature = (name, tuple(SPELLED.get(type_, type_) for type_ in variant))
            if signature in known or "internal" in types or "cstring" in (*types, result):
                continue
            known.add(signature)
            returned = _returned(result, types, variant)
            if returned is None:
                continue
            if kind == "a":
                if len(variant) == 1:
                    yield from _aggregate(name, variant[0], returned)
                elif name == "string_agg":
                    yield from _string_agg(*variant)
            else:
                yield _function(name, variant, types, returned, is_set)


def _variants(types: list[str], is_variadic: bool) -> Iterator[tuple[str, ...]]:
    """Argument types that come near: one place changed, or each polymorphic one alike."""
    if is_variadic:
        for chosen in TYPES:
            # Text turns into a regclass by itself, where it is none.
            for more in (1,) if chosen.startswith("reg") else (1, 2, 3):
                yield (*types[:-1], *[chosen] * more)
        return
    if any(_is_polymorphic(name) for name in types):
        takes_arrays = any(_is_polymorphic_array(name) for name in types)
        for chosen in (*TYPES, "record"):
            if takes_arrays and (chosen.endswith("[]") or chosen == "record"):
                continue
            yield tuple(_replaced(name, chosen) for name in types)
        return
    for place, chosen in itertools.product(range(len(types)), TYPES):
        yield (*types[:place], chosen, *types[place + 1 :])


def _is_polymorphic(name: str) -> bool:
    return name.strip('"') in POLYMORPHIC or _is_polymorphic_array(name)


def _is_polymorphic_array(name: str) -> bool:
    return name in ("anyarray", "anycompatiblearray")


def _replaced(name: str, chosen: str) -> str:
    if _is_polymorphic_array(name):
        return f"{chosen}[]"
    return chosen if _is_polymorphic(name) else name


def _returned(result: str, types: list[str], variant: tuple[str, ...]) -> str | None:
    if not _is_polymorphic(result):
        return None if result in ("record", "anyrange", "anymultirange") else result
    for name, chosen in zip(types, variant, strict=False):
        if _is_polymorphic(name):
            element = chosen.removesuffix("[]") if _is_polymorphic_array(name) else chosen
            wants_array = _is_polymorphic_array(result) and not element.endswith("[]")
            return f"{element}[]" if wants_array else element
    return None


def _function(
    name: str, variant: tuple[str, ...], types: list[str], returned: str, is_set: bool
) -> str:
    arguments = ", ".join(
        f"${place}"
        if place > len(types) or _is_polymorphic(types[place - 1])
        else f"${place}::{types[place - 1]}"
        if types[place - 1] != variant[place - 1]
        else f"${place}"
        for place in range(1, len(variant) + 1)
    )
    call = f'pg_catalog."{name}"({arguments})'
    body = f"return query select {call}" if is_set else f"return {call}"
    if returned == "void":
        body = f"perform {call}"
    return (
        f'create function hostile."{name}"({", ".join(variant)}) '
        f"returns {'setof ' if is_set else ''}{returned} language plpgsql "
        "set search_path = pg_catalog, pg_temp as $hostile$ begin "
        f"perform hostile.trap('{name}({', '.join(variant)})'); {body}; end $hostile$"
    )


def _aggregate(name: str, argument: str, returned: str) -> Iterator[str]:
    """An aggregate that keeps the values, and asks the real one in the end."""
    if argument.endswith("[]") or argument == "record":
        return
    yield (
        f'create function hostile."_{name}"({argument}[], {argument}) returns {argument}[] '
        "language plpgsql set search_path = pg_catalog, pg_temp as $hostile$ begin "
        f"perform hostile.trap('{name}({argument})'); return $1 || $2; end $hostile$"
    )
    yield (
        f'create function hostile."_end_{name}"({argument}[]) returns {returned} '
        "language plpgsql set search_path = pg_catalog, pg_temp as $hostile$ begin "
        f'return (select pg_catalog."{name}"(v) from unnest($1) as v); end $hostile$'
    )
    yield (
        f'create aggregate hostile."{name}"({argument}) (sfunc = hostile."_{name}", '
        f"stype = {argument}[], finalfunc = hostile.\"_end_{name}\", initcond = '{{}}')"
    )


def _string_agg(value: str, separator: str) -> Iterator[str]:
    yield (
        f"create function hostile._string_agg(text, {value}, {separator}) returns text "
        "language plpgsql set search_path = pg_catalog, pg_temp as $hostile$ begin "
        f"perform hostile.trap('string_agg({value}, {separator})'); "
        "return case when $2 is null then $1 else coalesce($1 || $3::text, '') || $2::text end; "
        "end $hostile$"
    )
    yield (
        f"create aggregate hostile.string_agg({value}, {separator}) "
        "(sfunc = hostile._string_agg, stype = text)"
    )


# --------------------------------------------------------------------------------------------
# Operators
# --------------------------------------------------------------------------------------------


def _operators(connection: psycopg.Connection) -> Iterator[str]:
    """Statements that make operators for pairs of types that have none of their very own.

    Only where PostgreSQL has something to offer, by a conversion: the others would be no match.
    """
    exact = {
        tuple(row)
        for row in connection.execute(
            "select oprname, format_type(oprleft, null), format_type(oprright, null)"
            " from pg_operator where oprnamespace = 'pg_catalog'::regnamespace and oprleft <> 0"
        )
    }
    for number, (operator, left, right) in enumerate(itertools.product(OPERATORS, TYPES, TYPES)):
        if (operator, SPELLED.get(left, left), SPELLED.get(right, right)) in exact:
            continue
        try:
            with connection.transaction():
                row = connection.execute(
                    f"select pg_typeof(null::{left} {operator} null::{right})::text".encode()
                ).fetchone()
        except psycopg.Error:
            continue
        assert row is not None
        yield (
            f"create function hostile._operator_{number}({left}, {right}) returns {row[0]} "
            "language plpgsql immutable "
            "set search_path = pg_catalog, pg_temp as $hostile$ begin "
            f"perform hostile.trap('{left} {operator} {right}'); return $1 {operator} $2; "
            "end $hostile$"
        )
        yield (
            f"create operator hostile.{operator} (leftarg = {left}, rightarg = {right}, "
            f"function = hostile._operator_{number})"
        )
