# Generated from sqlkit/calls_async.py by python -m sqlkit.build; do not edit.

"""One typed function for each SQL function of sqlkit that Python calls.

Apart from COPY, this is all the SQL in the package. Every function runs in the transaction that
the connection is in, and under the user's search_path, which finds his tables: so functions of
PostgreSQL are written with their schema, or another one that fits the arguments better would be
called. Operators stand between types that PostgreSQL has an operator for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, replace
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import Connection, sql
from psycopg.rows import tuple_row

from sqlkit.errors import SqlkitError
from sqlkit.model import (
    Column,
    Comparison,
    MaintenanceStep,
    Repaired,
    RunSpeed,
    Session,
    SourceRange,
    SourceState,
    Target,
)
from sqlkit.results import RowCounts
from sqlkit.transient import REASONS, LockWaiting

if TYPE_CHECKING:
    from sqlkit.maintenance_plan import MaintenanceOptions

# Composite values, attribute by attribute.
_RANGE = "row(%s, %s, %s, %s, %s, %s, %s)::sqlkit.source_range"
_COUNTS = "row(%s, %s, %s, %s, %s, %s, %s)::sqlkit.row_counts"


def _value(connection: Connection[Any], query: str, *values: Any) -> Any:
    row = _row(connection, query, *values)
    return row[0]


def _row(connection: Connection[Any], query: str, *values: Any) -> tuple[Any, ...]:
    # Whatever row factory the caller's connection has, plain rows are wanted here.
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(query.encode(), values)
    row = cursor.fetchone()
    if row is None:
        raise AssertionError(f"no row from: {query}")
    return row


def _rows(connection: Connection[Any], query: str, *values: Any) -> list[Any]:
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(query.encode(), values)
    return cursor.fetchall()


def version(connection: Connection[Any]) -> tuple[str | None, str | None]:
    """The version of the schema that is deployed, None if there is none; its oldest client."""
    if not _value(connection, "select pg_catalog.to_regprocedure('sqlkit.version()') is not null"):
        return None, None
    found = _row(connection, "select sqlkit.version(), sqlkit.oldest_client()")
    return found[0], found[1]


def server_encoding(connection: Connection[Any]) -> str:
    """PostgreSQL's name of the database's encoding."""
    found: str = _value(connection, "select pg_catalog.current_setting('server_encoding')")
    return found


def characters_of(connection: Connection[Any]) -> list[int]:
    """The characters that PostgreSQL converts to the database's encoding, as code points."""
    found: list[int] = _value(connection, "select sqlkit.characters_of()")
    return found


def forget_sources(connection: Connection[Any], target: str) -> None:
    """Nothing that the ledger knows of a table of this name is in it."""
    connection.execute("select sqlkit.forget_sources(%s::regclass)", [target])


def drop_empty_table(connection: Connection[Any], table: str, run_id: int) -> bool:
    """Drop a table unless it holds rows or another run loads into it; whether it was dropped.

    `table` comes quoted from the server. Call it in a transaction.
    """
    name = sql.SQL(table)
    connection.execute(sql.SQL("lock table {} in access exclusive mode").format(name))
    cursor = connection.execute(
        sql.SQL(
            "select exists (select from {}) or exists ("
            "select from sqlkit.run where target = %s and state = 'running' and run_id <> %s)"
        ).format(name),
        [table, run_id],
    )
    is_used = cursor.fetchone()
    if is_used is None or is_used[0]:
        return False
    connection.execute(sql.SQL("drop table {}").format(name))
    return True


def find_table(connection: Connection[Any], name: str) -> str | None:
    """The table of that name as schema.table, quoted; None if there is none."""
    found: str | None = _value(
        connection, "select sqlkit._table_name(pg_catalog.to_regclass(%s))", name
    )
    return found


def known_source(
    connection: Connection[Any], target: str, fingerprint: str, manner: dict[str, Any]
) -> str | None:
    """How far a target has come with a source: loading or loaded; None if it is new to it."""
    found: str | None = _value(
        connection,
        "select (sqlkit.find_source(%s::regclass, %s, %s::jsonb)).state",
        target,
        fingerprint,
        json.dumps(manner, ensure_ascii=False),
    )
    return found


def first_load_obstacle(connection: Connection[Any], target: str) -> str | None:
    """Why the indexes of a table cannot be built after its rows; None if they can."""
    found: str | None = _value(
        connection, "select sqlkit._first_load_obstacle(%s::regclass)", target
    )
    return found


def estimate_merge(
    connection: Connection[Any],
    target: str,
    columns: list[str],
    rows: list[list[str | None]],
    policy: str,
    key: list[str] | None,
    order_by: str | None,
) -> RowCounts:
    """What a merge would make of rows. Changes nothing."""
    row = _row(
        connection,
        "select e.* from sqlkit.estimate_merge(%s::regclass, %s::name[], %s::jsonb, %s, "
        "%s::name[], %s::name) as e",
        target,
        columns,
        json.dumps(rows, ensure_ascii=False),
        policy,
        key,
        order_by,
    )
    return RowCounts(*row)


def foresee_refresh(
    connection: Connection[Any],
    target: str,
    strategy: str,
    rows: int | None,
    bytes_: int | None,
    share: float,
    scope: list[str] | None,
    key: list[str] | None,
) -> tuple[str, list[str], list[str]]:
    """The strategy that a refresh would take, why, and for what it would be refused."""
    found = _row(
        connection,
        "select f.* from sqlkit.foresee_refresh(%s::regclass, %s, %s::bigint, %s::bigint, "
        "%s::double precision, %s::name[], %s::name[]) as f",
        target,
        strategy,
        rows,
        bytes_,
        share,
        scope,
        key,
    )
    return found[0], found[1], found[2]


def planned_rows(connection: Connection[Any], query: str) -> int:
    """How many rows a query of the user's own gives, as the planner takes it."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(b"explain (format json) " + query.encode())
    [(plans,)] = cursor.fetchall()
    return int(plans[0]["Plan"]["Plan Rows"])


def missing_schema(connection: Connection[Any], table: str) -> str | None:
    """The schema of a table that is to be made, where it is not there."""
    schema: str | None = _value(
        connection,
        "select case when pg_catalog.cardinality(n.parts) operator(pg_catalog.>) 1 "
        "and pg_catalog.to_regnamespace(pg_catalog.quote_ident(n.parts[1])) is null "
        "then n.parts[1] end from (select pg_catalog.parse_ident(%s) as parts) as n",
        table,
    )
    return schema


def foreign_keys(connection: Connection[Any], tables: list[str]) -> list[tuple[str, str]]:
    """The foreign keys of tables: the table and the one that it refers to, as schema.table."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        b"select distinct sqlkit._table_name(c.conrelid), sqlkit._table_name(c.confrelid) "
        b"from pg_catalog.pg_constraint as c "
        b"where c.contype = 'f' and c.conrelid operator(pg_catalog.=) any(%s::regclass[]::oid[]) "
        b"and c.conrelid operator(pg_catalog.<>) c.confrelid "
        b"order by 1, 2",
        (tables,),
    )
    return [(row[0], row[1]) for row in cursor.fetchall()]


def describe_target(connection: Connection[Any], target: str) -> Target:
    """What a loader has to know of a target. Raises SK201 if it is not a table."""
    found, may_deny_rows = _row(
        connection,
        "select t.told::text, sqlkit._may_deny_rows(%s::regclass) "
        "from sqlkit.describe_target(%s::regclass) as t (told)",
        target,
        target,
    )
    described = json.loads(found)
    return Target(
        name=described["name"],
        kind=described["kind"],
        heap_bytes=described["heap_bytes"],
        key=tuple(described["key"]) if described["key"] else None,
        has_row_triggers=described["has_row_triggers"],
        rows_are_independent=described["rows_are_independent"],
        has_rules=described["has_rules"],
        row_security=described["row_security"],
        may_deny_rows=may_deny_rows,
        columns=tuple(
            Column(
                name=column["name"],
                type=column["type"],
                is_json=column["is_json"],
                is_generated=column["is_generated"],
                has_default=column["has_default"],
                not_null=column["not_null"],
            )
            for column in described["columns"] or ()
        ),
    )


def find_policy_key(
    connection: Connection[Any], target: str, policy: str, key: list[str] | None
) -> list[str] | None:
    """The key's columns in the order of its index; None for append.

    Raises SK202, SK203, SK204, SK212.
    """
    found: list[str] | None = _value(
        connection,
        "select sqlkit.find_policy_key(%s::regclass, %s, %s::name[])::text[]",
        target,
        policy,
        key,
    )
    return found


def without_period(connection: Connection[Any], target: Target, key: list[str] | None) -> Target:
    """A target without the range column that policy history writes by itself. Raises SK212."""
    period = _value(
        connection,
        "select period from sqlkit._history(%s::regclass, %s::name[])",
        target.name,
        key,
    )
    return replace(target, columns=tuple(c for c in target.columns if c.name != period))


def start_run(
    connection: Connection[Any],
    kind: str,
    target: str,
    policy: str | None,
    key: list[str] | None,
    options: dict[str, Any],
    client: str,
) -> int:
    """Opens a run in the ledger."""
    run_id: int = _value(
        connection,
        "select sqlkit.start_run(%s, %s::regclass, %s, %s::name[], %s::jsonb, %s)",
        kind,
        target,
        policy,
        key,
        json.dumps(options),
        client,
    )
    return run_id


def finish_run(
    connection: Connection[Any],
    run_id: int,
    error_code: str | None = None,
    error_message: str | None = None,
    wal_bytes: int | None = None,
) -> None:
    """Closes a run: done, or failed with an error. Raises SK401."""
    _value(
        connection,
        "select sqlkit.finish_run(%s, %s, %s, %s)",
        run_id,
        error_code,
        error_message,
        wal_bytes,
    )


def wal_position(connection: Connection[Any]) -> int:
    """Bytes of WAL that the server has written so far."""
    found: int = _value(
        connection,
        "select pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::bigint",
    )
    return found


def open_source(
    connection: Connection[Any],
    target: str,
    name: str,
    format: str,
    size: int | None,
    fingerprint: str | None,
    again: bool,
    manner: dict[str, Any],
    call: str | None,
) -> SourceState:
    """The ledger's row of a source and a target, new or known.

    Raises SK410.
    """
    row = _row(
        connection,
        "select source_id, state, next_offset, next_line, stored_offset, stored_sha256 "
        "from sqlkit.open_source(%s::regclass, %s, %s, %s, %s, %s, %s::jsonb, %s)",
        target,
        name,
        format,
        size,
        fingerprint,
        again,
        json.dumps(manner, ensure_ascii=False),
        call,
    )
    return SourceState(*row)


def open_sources(
    connection: Connection[Any], target: str, sources: list[dict[str, Any]]
) -> list[SourceState]:
    """The ledger's rows of some sources, in their order. Raises SK410."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        b"select source_id, state, next_offset, next_line, stored_offset, stored_sha256 "
        b"from sqlkit.open_sources(%s::regclass, %s::jsonb)",
        (target, json.dumps(sources, ensure_ascii=False)),
    )
    return [SourceState(*row) for row in cursor.fetchall()]


def find_version(connection: Connection[Any], target: str, version: str) -> str | None:
    """The fingerprint of what was loaded into a target under a version; None if nothing was."""
    return _value(connection, "select sqlkit.find_version(%s::regclass, %s)", target, version)  # type: ignore[no-any-return]


def note_version(connection: Connection[Any], source_id: int, version: str) -> None:
    """Records under which version the content of a source was found."""
    _value(connection, "select sqlkit.note_version(%s, %s)", source_id, version)


def find_watermark(
    connection: Connection[Any], target: str, source: str, column: str
) -> str | None:
    """How far a source has been loaded into a target, by a column of it; None if it never was."""
    return _value(  # type: ignore[no-any-return]
        connection, "select sqlkit.find_watermark(%s::regclass, %s, %s)", target, source, column
    )


def find_watermarks(
    connection: Connection[Any], target: str, sources: list[str], column: str
) -> dict[str, str]:
    """As find_watermark, of many sources at once: those that have one."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        b"select source, value from sqlkit.find_watermarks(%s::regclass, %s, %s)",
        [target, sources, column],
    )
    return dict(cursor.fetchall())


def note_watermark(
    connection: Connection[Any],
    source_id: int,
    source: str,
    column: str,
    since: str | None,
    value: str,
) -> None:
    """Says where the watermark of a source is to stand when all of it is loaded."""
    _value(
        connection,
        "select sqlkit.note_watermark(%s, %s, %s, %s, %s)",
        source_id,
        source,
        column,
        since,
        value,
    )


def source_states(connection: Connection[Any], source_ids: list[int]) -> dict[int, SourceState]:
    """How far sources have come that were opened before, but those where that was rolled back."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        "select s.source_id, s.state, s.next_offset, s.next_line, s.stored_offset, s.stored_sha256 "
        "from sqlkit.source as s where s.source_id = any(%s)",
        [source_ids],
    )
    return {row[0]: SourceState(*row) for row in cursor.fetchall()}


def describe_source(connection: Connection[Any], source_id: int, layout: dict[str, Any]) -> None:
    """Records how the records of a source are written."""
    _value(
        connection,
        "select sqlkit.describe_source(%s, %s::jsonb)",
        source_id,
        json.dumps(layout, ensure_ascii=False),
    )


def create_stage(
    connection: Connection[Any],
    target: str,
    columns: list[str],
    left_out: list[str],
    run_id: int | None,
) -> str:
    """Makes a stage; its name as schema.table, quoted."""
    oid: int = _value(
        connection,
        "select sqlkit.create_stage(%s::regclass, %s::name[], p_left_out => %s::name[], "
        "p_run_id => %s)::oid",
        target,
        columns,
        left_out,
        run_id,
    )
    # Not in the same statement, which does not see what it has made.
    found: str = _value(connection, "select sqlkit._table_name(%s::oid::regclass)", oid)
    return found


def drop_stage(connection: Connection[Any], stage: str) -> None:
    """Drops a stage with all rows in it. Raises SK208."""
    _value(connection, "select sqlkit.drop_stage(%s::regclass)", stage)


def empty_stages(connection: Connection[Any], stages: list[str]) -> None:
    """Makes stages ready for the next batch."""
    _value(connection, "select sqlkit.empty_stages(%s::regclass[])", stages)


def merge_batch(
    connection: Connection[Any],
    run_id: int,
    source_id: int,
    piece: SourceRange,
    stages: list[str],
    target: str,
    policy: str,
    key: list[str] | None,
    order_by: str | None,
    pieces: list[dict[str, int]],
    seconds_decode: float,
    seconds_copy: float,
    rows_rejected: int,
    reject_limit: int | None,
    reject_share: float | None,
) -> tuple[RowCounts, float, float]:
    """Merges the stages of a batch and records it; says what became of its rows, for how many
    seconds they were looked up in the target, and for how many its indexes were built anew."""
    row = _row(
        connection,
        "select m.*, pg_catalog.current_setting('sqlkit.seconds_lookup'), "  # noqa: S608 - no values
        "pg_catalog.current_setting('sqlkit.seconds_indexes') from sqlkit.merge_screened_batch("
        f"%s, %s, {_RANGE}, %s::regclass[], %s::regclass, "
        "%s, %s::name[], %s::name, %s::jsonb, %s, %s, %s, %s, %s) as m",
        run_id,
        source_id,
        *astuple(piece),
        stages,
        target,
        policy,
        key,
        order_by,
        json.dumps(pieces),
        seconds_decode,
        seconds_copy,
        rows_rejected,
        reject_limit,
        reject_share,
    )
    *counts, lookup, indexes = row
    return RowCounts(*counts), float(lookup), float(indexes)


def merge_shared_batch(
    connection: Connection[Any],
    run_id: int,
    parts: list[dict[str, Any]],
    stages: list[str],
    target: str,
    policy: str,
    key: list[str] | None,
    order_by: str | None,
    pieces: list[dict[str, int]],
    seconds_decode: float,
    seconds_copy: float,
) -> tuple[RowCounts, float]:
    """Merges the stages of a batch that several sources share; tells what `merge_batch` does, but
    for indexes."""
    *counts, lookup = _row(
        connection,
        "select m.*, pg_catalog.current_setting('sqlkit.seconds_lookup') "
        "from sqlkit.merge_shared_batch(%s, %s::jsonb, %s::regclass[], %s::regclass, "
        "%s, %s::name[], %s::name, %s::jsonb, %s, %s) as m",
        run_id,
        json.dumps(parts),
        stages,
        target,
        policy,
        key,
        order_by,
        json.dumps(pieces),
        seconds_decode,
        seconds_copy,
    )
    return RowCounts(*counts), float(lookup)


def copy_table(connection: Connection[Any], table: str, run_id: int, with_rows: bool) -> str:
    """Makes a copy of a table in the stages of a run; its name as schema.table, quoted."""
    oid: int = _value(
        connection, "select sqlkit.copy_table(%s::regclass, %s, %s)::oid", table, run_id, with_rows
    )
    found: str = _value(connection, "select sqlkit._table_name(%s::oid::regclass)", oid)
    return found


def compare_tables(
    connection: Connection[Any],
    left: str,
    right: str,
    key: list[str] | None,
    columns: list[str] | None,
    limit: int,
) -> Comparison:
    """Whether two tables hold the same. Raises SK204."""
    row = _row(
        connection,
        "select c.rows_left, c.rows_right, c.only_left, c.only_right, c.different, "
        "c.columns_different::text, c.examples::text "
        "from sqlkit.compare_tables(%s::regclass, %s::regclass, %s::name[], %s::name[], %s) as c",
        left,
        right,
        key,
        columns,
        limit,
    )
    return Comparison(
        rows_left=row[0],
        rows_right=row[1],
        only_left=row[2],
        only_right=row[3],
        different=row[4],
        columns=json.loads(row[5]),
        examples=tuple(json.loads(row[6])),
    )


def sums_of(connection: Connection[Any], query: str) -> list[int]:
    """The numbers that a query of sqlkit's own gives, where nothing else is found by its names.

    Call it in a transaction.
    """
    connection.execute("select pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)")
    return [int(value) for value in _row(connection, query)]


def merge_query(
    connection: Connection[Any],
    target: str,
    query: str,
    run_id: int,
    policy: str,
    key: list[str] | None,
    order_by: str | None,
    lookups: Sequence[dict[str, Any]] = (),
) -> None:
    """Merges the rows of a query into a table, in the transaction that the connection is in."""
    stage = stage_query(connection, target, query, run_id, lookups)
    _value(
        connection,
        "select sqlkit.merge_stage(%s::regclass, %s, %s::name[], %s::name)",
        stage,
        policy,
        key,
        order_by,
    )
    drop_stage(connection, stage)


def stage_query(
    connection: Connection[Any],
    target: str,
    query: str,
    run_id: int | None,
    lookups: Sequence[dict[str, Any]] = (),
) -> str:
    """Makes a stage that holds the rows of a query; its name as schema.table, quoted."""
    oid: int = _value(
        connection,
        "select sqlkit.stage_query(%s::regclass, %s, %s, p_left_out => "
        "sqlkit._only_looked_up(%s::regclass, %s::jsonb))::oid",
        target,
        query,
        run_id,
        target,
        json.dumps(lookups),
    )
    found: str = _value(connection, "select sqlkit._table_name(%s::oid::regclass)", oid)
    add_lookups(connection, found, lookups)
    return found


def apply_transform(
    connection: Connection[Any],
    run_id: int,
    source: str,
    target: str,
    query: str,
    policy: str,
    key: list[str] | None,
    order_by: str | None,
    name: str,
    full: bool,
    lookups: Sequence[dict[str, Any]] = (),
    reject_limit: int | None = 0,
    reject_share: float | None = None,
) -> bool:
    """Merges what a query makes of the rows of a source that changed. The ledger has the counts.

    False, and nothing was merged, if more rows were refused than may be.
    """
    told = _value(
        connection,
        "select sqlkit.apply_transform(%s::regclass, %s::regclass, %s, %s, %s::name[], %s::name, "
        "%s, %s, %s, p_lookups => %s::jsonb, p_limit => %s::bigint, "
        "p_share => %s::double precision)::text",
        source,
        target,
        query,
        policy,
        key,
        order_by,
        name,
        full,
        run_id,
        json.dumps(lookups),
        reject_limit,
        reject_share,
    )
    return told is not None


def transform_of(connection: Connection[Any], run_id: int) -> tuple[str, int, RowCounts]:
    """The state of a run that is a transform, how many raw rows it saw, and what became of them."""
    row = _row(
        connection,
        "select state, coalesce((r.options ->> 'rows_source')::bigint, 0), rows_read, "
        "rows_inserted, rows_updated, rows_unchanged, rows_ignored, rows_duplicate, rows_rejected "
        "from sqlkit.run_summary join sqlkit.run as r using (run_id, state) where run_id = %s",
        run_id,
    )
    return row[0], row[1], RowCounts(*row[2:])


def transform_state(
    connection: Connection[Any], source: str, target: str, name: str
) -> tuple[bool, datetime | None, str | None]:
    """Whether the source follows its changes; when a transform was applied last, and what."""
    row = _row(
        connection,
        "select sqlkit._is_followed(%s::regclass), t.applied_at, t.query_sha256 "
        "from (select) as one left join sqlkit.transform as t "
        "on t.source = %s and t.target = %s and t.name = %s",
        source,
        source,
        target,
        name,
    )
    return row[0], row[1], row[2]


def changed_rows(connection: Connection[Any], source: str, target: str, name: str) -> str:
    """A query for the rows of a source that have changed since a transform was applied last."""
    query: str = _value(
        connection,
        "select sqlkit._changed_rows("
        "%s::regclass, t.changes_seen, "
        "case when t.changes_seen is not null then pg_catalog.pg_current_snapshot() end) "
        "from (select) as one left join sqlkit.transform as t "
        "on t.source = %s and t.target = %s and t.name = %s "
        "and pg_catalog.pg_snapshot_xmax(t.changes_seen) "
        "operator(pg_catalog.<=) pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())",
        source,
        source,
        target,
        name,
    )
    return query


def count_rows(connection: Connection[Any], query: str) -> int:
    """How many rows a query has, which comes from the server."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(sql.SQL("select pg_catalog.count(*) from ({}) as r").format(sql.SQL(query)))
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def describe_merge(
    connection: Connection[Any],
    target: str,
    columns: list[str],
    policy: str,
    key: list[str] | None,
    order_by: str | None,
) -> list[str]:
    """The statements by which a stage with these columns would be merged."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        b"select d.statement from sqlkit.describe_merge("
        b"%s::regclass, %s::name[], %s, %s::name[], %s::name) as d (statement)",
        (target, columns, policy, key, order_by),
    )
    return [statement for (statement,) in cursor.fetchall()]


def indexes_to_build(connection: Connection[Any], target: str) -> list[tuple[str, str | None, str]]:
    """What a first load takes away and builds again: the name of each index, the constraint that
    it belongs to, and its definition."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        b"select i.name, i.constraint_name, i.definition "
        b"from (select v ->> 'name', v ->> 'constraint', v ->> 'definition' "
        b"from pg_catalog.jsonb_array_elements(sqlkit._saved_indexes(%s::regclass)) as v) "
        b"as i (name, constraint_name, definition)",
        (target,),
    )
    return cursor.fetchall()


def rows_of(
    connection: Connection[Any], query: str, limit: int
) -> tuple[list[str], list[list[str | None]]]:
    """The columns of a query of the user's own, and its first rows as text."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(query.encode(), binary=False)
    columns = [column.name for column in cursor.description or ()]
    result = cursor.pgresult
    assert result is not None
    rows = []
    for row in range(min(limit, result.ntuples)):
        values = (result.get_value(row, column) for column in range(len(columns)))
        rows.append([None if value is None else bytes(value).decode() for value in values])
    return columns, rows


def try_transform(
    connection: Connection[Any],
    target: str,
    query: str,
    given: list[dict[str, Any]],
    expect: list[dict[str, Any]],
    lookups: Sequence[dict[str, Any]],
) -> tuple[list[dict[str, str | None]], list[dict[str, str | None]]]:
    """What a query makes of raw rows, and rows that are expected, both as the target's types write
    them. Call it in a transaction, and roll that back.
    """
    connection.execute(
        b"create temporary table sqlkit_changed (raw_data jsonb, source_file text, run_id bigint, "
        b"loaded_at timestamptz default pg_catalog.now(), "
        b"updated_at timestamptz default pg_catalog.now()) on commit drop"
    )
    for row in given:
        connection.execute(
            b"insert into pg_temp.sqlkit_changed (raw_data) values (%s::jsonb)", [json.dumps(row)]
        )
    name = find_table(connection, target)
    if name is None:
        raise SqlkitError(f"there is no table {target}", code="42P01")
    stage = stage_query(connection, name, query, None, lookups)
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        sql.SQL(
            "select pg_catalog.jsonb_object_agg(c.key, c.value) from {} as s, "
            "lateral pg_catalog.jsonb_each_text(pg_catalog.to_jsonb(s)) as c group by s.ctid"
        ).format(sql.SQL(stage))  # quoted by the server
    )
    made = [row[0] for row in cursor.fetchall()]
    wanted = []
    for expected in expect:
        cursor.execute(
            sql.SQL(
                "select pg_catalog.jsonb_object_agg(k.name, pg_catalog.to_jsonb(r) ->> k.name) "
                "from pg_catalog.jsonb_populate_record(null::{}, %s::jsonb) as r, "
                "pg_catalog.unnest(%s::text[]) as k (name)"
            ).format(sql.SQL(stage)),
            [json.dumps(expected), list(expected)],
        )
        wanted += [row[0] or {} for row in cursor.fetchall()]
    return made, wanted


def add_columns(
    connection: Connection[Any],
    target: str,
    columns: list[str],
    types: list[str],
    run_id: int,
) -> None:
    """Adds the columns that a table does not have yet, and notes them in the run."""
    _value(
        connection,
        "select sqlkit.add_columns(%s::regclass, %s::name[], %s::text[], %s)",
        target,
        columns,
        types,
        run_id,
    )


def collect_columns(
    connection: Connection[Any],
    stage: str,
    into: str,
    names: list[str],
    columns: list[str],
    type: str,
) -> None:
    """Has a stage put columns of text together as one object, in the column `into`."""
    _value(
        connection,
        "select sqlkit._collect_columns(%s::regclass, %s::name, %s::text[], %s::name[], "
        "%s::regtype)::text",
        stage,
        into,
        names,
        columns,
        type,
    )


def tell_origin(connection: Connection[Any], source: str, run_id: int) -> None:
    """What a raw table puts into source_file and run_id, until the transaction ends."""
    _value(
        connection,
        "select pg_catalog.set_config('sqlkit.source_file', %s, true) "
        "|| pg_catalog.set_config('sqlkit.run_id', %s, true)",
        source,
        str(run_id),
    )


def refresh_batch(
    connection: Connection[Any],
    run_id: int,
    stage: str,
    strategy: str,
    scope: list[str] | None,
    delete_share: float | None,
    delete_limit: int | None,
    key: list[str] | None,
    rows: int | None,
) -> tuple[str, RowCounts, int]:
    """Refreshes the target of a stage: the strategy, what became of the rows, and how many went."""
    row = _row(
        connection,
        "select r.* from sqlkit.refresh_batch(%s, %s::regclass, %s, %s::name[], %s, %s, "
        "%s::name[], %s) as r",
        run_id,
        stage,
        strategy,
        scope,
        delete_share,
        delete_limit,
        key,
        rows,
    )
    return _refreshed(row)


def refresh(
    connection: Connection[Any],
    run_id: int,
    target: str,
    query: str | None,
    stage: str | None,
    strategy: str,
    scope: list[str] | None,
    delete_share: float | None,
    delete_limit: int | None,
    key: list[str] | None,
    rows: int | None,
    *,
    tune: bool,
) -> tuple[str, RowCounts, int]:
    """Refreshes a target and commits: the strategy, what became of the rows, how many went."""
    row = _row(
        connection,
        "call sqlkit.refresh(%s::regclass, %s, %s::regclass, %s, %s::name[], %s, %s, %s::name[], "
        "%s, %s, p_tune => %s)",
        target,
        query,
        stage,
        strategy,
        scope,
        delete_share,
        delete_limit,
        key,
        run_id,
        rows,
        tune,
    )
    return _refreshed(row)


def _refreshed(row: tuple[Any, ...]) -> tuple[str, RowCounts, int]:
    strategy, *counts, deleted = row
    return strategy, RowCounts(*counts), deleted


def plan_screen(
    connection: Connection[Any],
    target: str,
    columns: list[str],
    left_out: list[str],
    policy: str,
    key: list[str] | None,
) -> dict[str, Any]:
    """What screening for a target takes; part of it is for the client, all of it for the server."""
    plan = _value(
        connection,
        "select sqlkit.plan_screen(%s::regclass, %s::name[], %s::name[], %s, %s::name[])::text",
        target,
        columns,
        left_out,
        policy,
        key,
    )
    found: dict[str, Any] = json.loads(plan)
    return found


def begin_screen(connection: Connection[Any], plan: str) -> None:
    """Makes room for the next piece, until the transaction ends."""
    _value(connection, "select sqlkit.begin_screen(%s::jsonb)", plan)


def screen_text(connection: Connection[Any], plan: str) -> list[list[Any]]:
    """Of the records in doubt, the bad ones: lines, raw text, column, SQLSTATE, message."""
    found = _value(connection, "select sqlkit.screen_text(%s::jsonb)::text", plan)
    rows: list[list[Any]] = json.loads(found)
    return rows


def screen_rows(connection: Connection[Any], plan: str) -> list[list[Any]]:
    """The rows that break constraints: number from 1, column, SQLSTATE, message."""
    found = _value(connection, "select sqlkit.screen_rows(%s::jsonb)::text", plan)
    rows: list[list[Any]] = json.loads(found)
    return rows


def screen_stage(
    connection: Connection[Any], plan: str, stage: str, after: str | None
) -> tuple[list[list[Any]], str | None]:
    """Takes from a stage the rows behind a place that break constraints: what they were, as
    `screen_rows` tells it, and the place where the stage ends."""
    found = _value(
        connection, "select sqlkit.screen_stage(%s::jsonb, %s, %s::tid)::text", plan, stage, after
    )
    told: dict[str, Any] = json.loads(found)
    return told["broken"], told["last"]


def check_reject_limit(
    connection: Connection[Any],
    run_id: int,
    rows_read: int,
    rows_rejected: int,
    reject_limit: int | None,
    reject_share: float | None,
) -> None:
    """Raises SK301 if a batch that is not recorded yet has too many rejects for its run."""
    _value(
        connection,
        "select sqlkit.check_reject_limit(%s, %s, %s, %s, %s)",
        run_id,
        rows_read,
        rows_rejected,
        reject_limit,
        reject_share,
    )


def keep_rejects(
    connection: Connection[Any],
    run_id: int,
    source_id: int,
    start_offset: int,
    rejects: str,
) -> None:
    """Records rows that were kept away from a recorded batch, as a JSON list of lists."""
    _value(
        connection,
        "select sqlkit.keep_rejects(%s, %s, %s, %s::jsonb)",
        run_id,
        source_id,
        start_offset,
        rejects,
    )


def choose_strategy(
    connection: Connection[Any], stage: str, scope: list[str] | None, key: list[str] | None
) -> tuple[str, list[str]]:
    """The strategy that auto would take, and the reasons."""
    row = _row(
        connection,
        "select c.* from sqlkit.choose_strategy(%s::regclass, %s::name[], %s::name[]) as c",
        stage,
        scope,
        key,
    )
    return row[0], row[1]


def reasons_of(connection: Connection[Any], run_id: int) -> list[str]:
    """Why a run went the way it did; nothing where it was told to."""
    found: list[str] | None = _value(
        connection, "select reasons from sqlkit.run where run_id = %s", run_id
    )
    return found or []


def claim_batch(connection: Connection[Any], source_id: int, start_offset: int) -> None:
    """Keeps a source where it stands until the transaction ends. Raises SK402."""
    _value(connection, "select sqlkit.claim_batch(%s, %s)", source_id, start_offset)


def record_batch(
    connection: Connection[Any],
    run_id: int,
    source_id: int,
    piece: SourceRange,
    counts: RowCounts,
    seconds_decode: float,
    seconds_copy: float,
    seconds_merge: float,
    wal_bytes: int,
) -> None:
    """Records a batch that COPY wrote into the target itself. Raises SK402."""
    _value(
        connection,
        f"select sqlkit.record_batch(%s, %s, {_RANGE}, {_COUNTS}, %s, %s, %s, %s)",
        run_id,
        source_id,
        *astuple(piece),
        *astuple(counts),
        seconds_decode,
        seconds_copy,
        seconds_merge,
        wal_bytes,
    )


def claim_parts(connection: Connection[Any], parts: list[dict[str, Any]]) -> None:
    """Makes sure that sources stand where the parts begin, and keeps them there. Raises SK402."""
    _value(connection, "select sqlkit.claim_parts(%s::jsonb)", json.dumps(parts))


def record_shared_batch(
    connection: Connection[Any],
    run_id: int,
    parts: list[dict[str, Any]],
    counts: RowCounts,
    seconds_decode: float,
    seconds_copy: float,
    seconds_merge: float,
    wal_bytes: int,
) -> None:
    """Records a batch of several sources that COPY wrote into the target itself. Raises SK402."""
    _value(
        connection,
        f"select sqlkit.record_shared_batch(%s, %s::jsonb, {_COUNTS}, %s, %s, %s, %s)",
        run_id,
        json.dumps(parts),
        *astuple(counts),
        seconds_decode,
        seconds_copy,
        seconds_merge,
        wal_bytes,
    )


def begin_first_load(connection: Connection[Any], target: str) -> str | None:
    """Makes an empty target ready for COPY FREEZE; None where that cannot be done."""
    found: str | None = _value(
        connection, "select sqlkit.begin_first_load(%s::regclass)::text", target
    )
    return found


def begin_tuning(
    connection: Connection[Any], run_id: int, target: str, key: list[str] | None
) -> None:
    """Changes what helps a run for as long as it lasts, and notes that in the ledger."""
    _value(
        connection,
        "select sqlkit.begin_tuning(%s, %s::regclass, %s::name[])",
        run_id,
        target,
        key,
    )


def tune_transaction(connection: Connection[Any]) -> None:
    """Gives the transaction more memory for sorts, hashes and indexes."""
    _value(connection, "select sqlkit.tune_transaction()")


def warm_key(
    connection: Connection[Any], target: str, key: list[str] | None
) -> list[tuple[str, int, float]]:
    """Reads the index of a key into memory: its name, bytes, seconds."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        b"select index_name::text, bytes, seconds from sqlkit.warm_key(%s::regclass, %s::name[])",
        (target, key),
    )
    return cursor.fetchall()


def note_reason(connection: Connection[Any], run_id: int, reason: str) -> None:
    """Adds to what a run says about itself."""
    connection.execute(
        "update sqlkit.run set reasons = pg_catalog.array_append(reasons, %s) where run_id = %s",
        (reason, run_id),
    )


def index_decision(
    connection: Connection[Any], target: str, rows: int | None, bytes_: int | None
) -> tuple[list[str], str | None]:
    """The indexes that may be built after so many rows, and why they would not be, if so."""
    found = _row(
        connection,
        "select array(select s.value ->> 'name' from pg_catalog.jsonb_array_elements("
        "sqlkit._secondary_indexes(%s::regclass)) as s), "
        "sqlkit._rebuild_objection(%s::regclass, %s::bigint, %s::bigint)",
        target,
        target,
        rows,
        bytes_,
    )
    return found[0], found[1]


def begin_rebuild(
    connection: Connection[Any], target: str, rows: int | None, bytes_: int | None
) -> str | None:
    """Takes indexes away that are better built after so many rows; None where they stay."""
    found: str | None = _value(
        connection,
        "select sqlkit.begin_rebuild(%s::regclass, %s::bigint, %s::bigint)::text",
        target,
        rows,
        bytes_,
    )
    return found


def finish_rebuild(connection: Connection[Any], target: str, indexes: str) -> None:
    """Builds the indexes again that `begin_rebuild` took away."""
    _value(connection, "select sqlkit.finish_rebuild(%s::regclass, %s::jsonb)", target, indexes)


def finish_first_load(
    connection: Connection[Any],
    target: str,
    indexes: str,
    rows_read: int,
    policy: str,
    key: list[str] | None,
    order_by: str | None,
) -> RowCounts:
    """Builds the indexes again that `begin_first_load` took away."""
    row = _row(
        connection,
        "select f.* from sqlkit.finish_first_load(%s::regclass, %s::jsonb, %s, %s, %s::name[], "
        "%s::name) as f",
        target,
        indexes,
        rows_read,
        policy,
        key,
        order_by,
    )
    return RowCounts(*row)


def create_text_stage(
    connection: Connection[Any], target: str, columns: list[str], run_id: int | None
) -> str:
    """Makes a stage that takes any record; its name as schema.table, quoted."""
    oid: int = _value(
        connection,
        "select sqlkit.create_text_stage(%s::regclass, %s::name[], %s)::oid",
        target,
        columns,
        run_id,
    )
    found: str = _value(connection, "select sqlkit._table_name(%s::oid::regclass)", oid)
    return found


def merge_text_batch(
    connection: Connection[Any],
    run_id: int,
    source_id: int,
    piece: SourceRange,
    stage: str,
    target: str,
    policy: str,
    key: list[str] | None,
    order_by: str | None,
    reject_limit: int | None,
    reject_share: float | None,
    seconds_decode: float,
    seconds_copy: float,
    conflicts: str | None = None,
) -> RowCounts | None:
    """Merges what is sound of a text stage and keeps the rest as rejects; None: over the limit.

    `conflicts` (reject, trim) holds it to the conflict rules of the target.
    """
    name, way = ("merge_text_batch", "") if conflicts is None else ("merge_checked_batch", "%s, ")
    row = _row(
        connection,
        f"select m.* from sqlkit.{name}(%s, %s, {_RANGE}, %s::regclass, %s::regclass, "  # noqa: S608
        f"%s, {way}%s::name[], %s::name, %s, %s, %s, %s) as m",
        run_id,
        source_id,
        *astuple(piece),
        stage,
        target,
        policy,
        *(() if conflicts is None else (conflicts,)),
        key,
        order_by,
        reject_limit,
        reject_share,
        seconds_decode,
        seconds_copy,
    )
    return None if row[0] is None else RowCounts(*row)


def rejects_of(
    connection: Connection[Any],
    run_id: int | None,
    state: str | None = None,
    limit: int | None = None,
    *,
    told_of: int | None = None,
) -> list[dict[str, Any]]:
    """Rejects in the order of their lines, each with the name and format of its source.

    `told_of` a source: only what was told of it, since too many rows of a batch were bad.
    """
    # Row by row: all of them may be more than one value may have, a gigabyte.
    rows = _rows(
        connection,
        "select pg_catalog.to_json(j)::text "
        "from (select j.*, s.name as source, s.layout, r.target from sqlkit.reject as j "
        "join sqlkit.run as r using (run_id) left join sqlkit.source as s using (source_id) "
        "where (%s::bigint is null or j.run_id = %s) and (%s::text is null or j.state = %s) "
        "and (%s::bigint is null or (j.source_id = %s and j.batch_id is null)) "
        "order by j.run_id, j.source_id, j.record, j.first_line, j.reject_id limit %s) as j "
        "order by j.run_id, j.source_id, j.record, j.first_line, j.reject_id",
        run_id,
        run_id,
        state,
        state,
        told_of,
        told_of,
        limit,
    )
    return [json.loads(row[0]) for row in rows]


def reject_versions(
    connection: Connection[Any], run_id: int, reject_ids: list[int] | None = None
) -> dict[int, str]:
    """Versions of a run's open rejects: whoever changes one makes another version of it.

    Those named are held as they are until the transaction ends.
    """
    query = "select reject_id, xmin::text from sqlkit.reject where run_id = %s and state = 'open'"
    if reject_ids is None:
        return dict(_rows(connection, query, run_id))
    query += " and reject_id = any(%s::bigint[]) for update"
    return dict(_rows(connection, query, run_id, reject_ids))


def edited_rejects(
    connection: Connection[Any], run_id: int, expression: str
) -> dict[int, str | None]:
    """What an SQL expression over the columns of sqlkit.reject makes of a run's open rejects."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        # The expression is the caller's own SQL, run with the caller's own rights. It has no
        # placeholders, and may end with a comment.
        f"select reject_id, ({expression.replace('%', '%%')}\n)::text "  # noqa: S608
        "from sqlkit.reject where run_id = %s and state = 'open'".encode(),
        [run_id],
    )
    return dict(cursor.fetchall())


def count_told(connection: Connection[Any], run_id: int, source_id: int | None = None) -> int:
    """How many rows of a source, or of a transform, a run only told of: its limit was passed."""
    found: int = _value(
        connection,
        "select pg_catalog.count(*) from sqlkit.reject "
        "where run_id = %s and source_id is not distinct from %s and batch_id is null",
        run_id,
        source_id,
    )
    return found


def count_kept(connection: Connection[Any], run_id: int) -> int:
    """How many rows of batches that were loaded a run has refused."""
    found: int = _value(
        connection,
        "select pg_catalog.count(*) from sqlkit.reject where run_id = %s and batch_id is not null",
        run_id,
    )
    return found


def reject_summaries(connection: Connection[Any], run_id: int | None) -> list[dict[str, Any]]:
    """Rejects by run and reason, the newest run first."""
    rows = _value(
        connection,
        "select coalesce(pg_catalog.json_agg("
        "pg_catalog.to_json(s) order by s.run_id desc, s.rejects desc), '[]')::text "
        "from (select * from sqlkit.reject_summary "
        "where %s::bigint is null or run_id = %s) as s",
        run_id,
        run_id,
    )
    found: list[dict[str, Any]] = json.loads(rows)
    return found


def settle_rejects(
    connection: Connection[Any],
    run_id: int,
    state: str,
    reject_ids: list[int] | None,
    settled_by: int | None,
) -> int:
    """Marks open rejects as replayed or dismissed; how many. Raises SK401."""
    found: int = _value(
        connection,
        "select sqlkit.settle_rejects(%s, %s, %s::bigint[], %s)",
        run_id,
        state,
        reject_ids,
        settled_by,
    )
    return found


def rules_of(connection: Connection[Any], target: str) -> list[str]:
    """The names of the conflict rules that are about a table, named as the ledger does."""
    found: list[str] = _value(
        connection,
        "select array(select r.name from sqlkit.conflict_rule as r where %s in (r.target, r.other) "
        "order by r.conflict_rule_id)",
        target,
    )
    return found


_MAKES = {
    "overlap": "define_overlap",
    "distance": "define_distance",
    "duplicate": "define_duplicate",
    "disagree": "define_disagreement",
}


def define_rule(
    connection: Connection[Any], name: str, kind: str, table: str, arguments: dict[str, Any]
) -> None:
    """Makes a conflict rule, or replaces it. Raises SK202, SK204, SK801, or that there is no table.

    `arguments` are those of the function for the kind, without ``p_``.
    """
    types = {"other": "regclass", "travel": "regprocedure"}

    def type_of(argument: str, value: Any) -> str:
        if isinstance(value, list):
            return "name[]"
        return "boolean" if isinstance(value, bool) else types.get(argument, "text")

    given = "".join(
        f", p_{argument} => %s::{type_of(argument, value)}" for argument, value in arguments.items()
    )
    _value(
        connection,
        f"select sqlkit.{_MAKES[kind]}(p_name => %s, p_target => %s::regclass{given})",
        name,
        table,
        *arguments.values(),
    )


def count_trimmed(connection: Connection[Any], run_id: int) -> int:
    """How many times a run cut a row, so that it overlaps no other."""
    found: int = _value(
        connection,
        "select count(*) from sqlkit.trimmed_row as t where t.run_id = %s",
        run_id,
    )
    return found


def detect_conflicts(
    connection: Connection[Any], rule: str, full: bool, part: int = 1, parts: int = 1
) -> dict[str, Any]:
    """Finds what a rule has for contradictory; what is new. Raises SK802, SK803."""
    found = _value(
        connection,
        "select pg_catalog.to_json(sqlkit.detect_conflicts(%s, %s, %s, %s))::text",
        rule,
        full,
        part,
        parts,
    )
    counts: dict[str, Any] = json.loads(found)
    return counts


def estimate_detection(connection: Connection[Any], rule: str, full: bool) -> int | None:
    """About how many rows a detection goes through; None where no parts help. Raises SK802."""
    rows: int | None = _value(connection, "select sqlkit.estimate_detection(%s, %s)", rule, full)
    return rows


def parallel_workers(connection: Connection[Any]) -> int:
    """How many processes the server lets work on queries in parallel."""
    found: int = _value(
        connection, "select pg_catalog.current_setting('max_parallel_workers')::integer"
    )
    return found


def work_alone(connection: Connection[Any]) -> None:
    """Nothing runs in parallel until the end of the transaction."""
    _value(
        connection,
        "select pg_catalog.set_config('max_parallel_workers_per_gather', '0', true)",
    )


def mark_detection(connection: Connection[Any], rule: str) -> str:
    """How far a detection in parts will have come. Raises SK802."""
    mark: str = _value(connection, "select sqlkit.mark_detection(%s)::text", rule)
    return mark


def finish_detection(connection: Connection[Any], rule: str, mark: str) -> None:
    """All parts of a detection are done. Raises SK802."""
    _value(connection, "select sqlkit.finish_detection(%s, %s::jsonb)", rule, mark)


def open_conflicts(connection: Connection[Any], rule: str) -> int:
    """How many conflicts of a rule are open."""
    found: int = _value(
        connection, "select s.pairs_open from sqlkit.conflict_summary as s where s.name = %s", rule
    )
    return found


def foreign_servers(connection: Connection[Any]) -> list[dict[str, Any]]:
    """The foreign servers by name, with their options, users and tables."""
    rows = _value(
        connection,
        "select coalesce(pg_catalog.json_agg(pg_catalog.to_json(s) order by s.name), '[]')::text "
        "from sqlkit.foreign_server as s",
    )
    found: list[dict[str, Any]] = json.loads(rows)
    return found


def foreign_table_names(connection: Connection[Any], server: str) -> list[str]:
    """The names, without schema, of a foreign server's tables."""
    found: list[str] = _value(
        connection,
        "select coalesce(pg_catalog.array_agg(c.relname::text), '{}') "
        "from pg_catalog.pg_foreign_table as f "
        "join pg_catalog.pg_foreign_server as s on s.oid = f.ftserver "
        "join pg_catalog.pg_class as c on c.oid = f.ftrelid where s.srvname = %s",
        server,
    )
    return found


def merge_source(
    connection: Connection[Any],
    target: str,
    source: str,
    policy: str,
    watermark: str | None,
    since: str | None,
    key: list[str] | None,
    order_by: str | None,
) -> RowCounts:
    """Applies the rows of another relation to a target."""
    row = _row(
        connection,
        "select m.* from sqlkit.merge_source(%s::regclass, %s::regclass, %s, %s::name, %s, "
        "%s::name[], %s::name) as m",
        target,
        source,
        policy,
        watermark,
        since,
        key,
        order_by,
    )
    return RowCounts(*row)


def check_server(connection: Connection[Any], name: str) -> list[dict[str, Any]]:
    """What reading a row of each of its tables comes to. Raises SK807."""
    rows = _value(
        connection,
        "select coalesce(pg_catalog.json_agg(pg_catalog.to_json(s)), '[]')::text "
        "from sqlkit.check_server(%s) as s",
        name,
    )
    found: list[dict[str, Any]] = json.loads(rows)
    return found


def drop_server(connection: Connection[Any], name: str) -> int:
    """Drops a foreign server and its tables; how many. Raises SK807."""
    found: int = _value(connection, "select sqlkit.drop_server(%s)", name)
    return found


def conflict_rules(connection: Connection[Any]) -> list[dict[str, Any]]:
    """The rules by name, each with the numbers of its conflicts."""
    rows = _value(
        connection,
        "select coalesce(pg_catalog.json_agg(pg_catalog.to_json(s) order by s.name), '[]')::text "
        "from sqlkit.conflict_summary as s",
    )
    found: list[dict[str, Any]] = json.loads(rows)
    return found


def conflicts_of(
    connection: Connection[Any], rule: str | None, state: str | None, limit: int | None
) -> list[dict[str, Any]]:
    """Conflicts, the newest last."""
    rows = _value(
        connection,
        "select coalesce(pg_catalog.json_agg("
        "pg_catalog.to_json(s) order by s.conflict_id), '[]')::text "
        "from (select r.name as rule, r.kind, r.target, r.other, c.conflict_id, c.resource, "
        "c.first_key, c.second_key, c.measure, c.facts, c.state, c.found_at, c.found_by, "
        "c.changed_at, c.changed_by, c.gone_at, c.note from sqlkit.conflict as c "
        "join sqlkit.conflict_rule as r on r.conflict_rule_id = c.conflict_rule_id "
        "where (%s::text is null or r.name = %s) and (%s::text is null or c.state = %s) "
        "order by c.conflict_id limit %s) as s",
        rule,
        rule,
        state,
        state,
        limit,
    )
    found: list[dict[str, Any]] = json.loads(rows)
    return found


def conflict_events(connection: Connection[Any], conflict_id: int) -> list[dict[str, Any]]:
    """What happened to a conflict, in order."""
    rows = _value(
        connection,
        "select coalesce(pg_catalog.json_agg("
        "pg_catalog.to_json(e) order by e.conflict_event_id), '[]')::text "
        "from sqlkit.conflict_event as e where e.conflict_id = %s",
        conflict_id,
    )
    found: list[dict[str, Any]] = json.loads(rows)
    return found


def is_conflict(connection: Connection[Any], conflict_id: int) -> bool:
    """Whether there is such a conflict."""
    found: bool = _value(
        connection,
        "select exists (select from sqlkit.conflict as c where c.conflict_id = %s)",
        conflict_id,
    )
    return found


def settle_conflicts(
    connection: Connection[Any], conflict_ids: list[int], state: str, note: str | None
) -> int:
    """Says what became of conflicts; for how many that is new. Raises SK804."""
    found: int = _value(
        connection,
        "select sqlkit.settle_conflicts(%s::bigint[], %s, %s)",
        conflict_ids,
        state,
        note,
    )
    return found


def flag_conflicts(connection: Connection[Any], rule: str, column: str) -> int:
    """Writes into a column which rows are in an open conflict; how many rows were written."""
    found: int = _value(
        connection, "select (sqlkit.flag_conflicts(%s, %s)).rows_updated", rule, column
    )
    return found


def add_lookups(connection: Connection[Any], stage: str, lookups: Sequence[dict[str, Any]]) -> None:
    """Has columns of a stage looked up when it is merged. Raises SK202 to SK204, 22P02."""
    if lookups:
        _value(
            connection,
            "select sqlkit._add_lookups(%s::regclass, %s::jsonb)::text",
            stage,
            json.dumps(lookups),
        )


def resolve_values(
    connection: Connection[Any],
    keys: list[list[Any]],
    dimension: str,
    id_column: str,
    key_columns: list[str],
    create: bool,
    defaults: dict[str, Any],
) -> list[str | None]:
    """The ids of natural keys as text, in their order. Raises SK203, SK204, 22P02."""
    found: list[str | None] = _value(
        connection,
        "select coalesce(pg_catalog.array_agg(v.id order by v.ordinality), '{}') "
        "from sqlkit.resolve_values(%s::jsonb, %s::regclass, %s::name, %s::name[], %s, %s::jsonb) "
        "with ordinality as v",
        json.dumps(keys),
        dimension,
        id_column,
        key_columns,
        create,
        json.dumps(defaults),
    )
    return found


def mapped_wrapper(connection: Connection[Any], server: str) -> str | None:
    """The wrapper of a foreign server that we have a user mapping of; None if there is none."""
    found: str | None = _value(
        connection,
        "select (select s.wrapper::text from sqlkit.foreign_server as s"
        " where s.name = %s and current_user = any (s.users))",
        server,
    )
    return found


def map_user(connection: Connection[Any], server: str) -> None:
    """Puts what pg_temp.sqlkit_secret holds into our user mapping of a server."""
    _value(connection, "select sqlkit._map_user(%s, '{}')", server)


def lookup_version(connection: Connection[Any], dimension: str) -> tuple[int, int | None]:
    """Which table a dimension is, and the count of its changes: None if nobody follows it."""
    oid, version = _value(
        connection,
        "select pg_catalog.jsonb_build_array(d.id::oid::bigint, sqlkit.lookup_version(d.id))"
        " from (select %s::regclass as id) as d",
        dimension,
    )
    return oid, version


def set_local(connection: Connection[Any], setting: str, value: str) -> None:
    """Changes a setting until the transaction ends."""
    _value(connection, "select pg_catalog.set_config(%s, %s, true)", setting, value)


def set_session(connection: Connection[Any], setting: str, value: str) -> None:
    """Changes a setting of the session."""
    _value(connection, "select pg_catalog.set_config(%s, %s, false)", setting, value)


def session(connection: Connection[Any]) -> Session:
    """The server process at the other end, and whether it accepts writes."""
    row = _row(
        connection,
        "select pg_catalog.pg_backend_pid(), "
        "(pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())).backend_start, "
        "pg_catalog.current_setting('transaction_read_only')::boolean, "
        "pg_catalog.current_setting('client_connection_check_interval') <> '0'",
    )
    return Session(*row)


def watch_client(connection: Connection[Any]) -> None:
    """Has the server look for this program every other second, while it is at a statement.

    Else one that was killed leaves its last statement, and its locks, until that is over. Nothing
    happens where the server's platform cannot tell.
    """
    with suppress(psycopg.errors.InvalidParameterValue):
        set_session(connection, "client_connection_check_interval", "2s")


def end_sessions(connection: Connection[Any], sessions: list[Session]) -> int:
    """Ends sessions that were lost, as far as they are still there; how many were."""
    found: int = _value(
        connection,
        "select sqlkit.end_sessions(%s::integer[], %s::timestamptz[])",
        [session.backend_pid for session in sessions],
        [session.started_at for session in sessions],
    )
    return found


def attach_run(connection: Connection[Any], run_id: int) -> bool:
    """Says that this connection's program is behind a run; False if there is no such run."""
    found: bool = _value(
        connection, "select sqlkit.attach_run(%s, %s)", run_id, connection.info.backend_pid
    )
    return found


def touch_run(connection: Connection[Any], run_id: int) -> None:
    """Says that the program behind a run is alive."""
    _value(connection, "select sqlkit.touch_run(%s)", run_id)


def lock_waiting(
    connection: Connection[Any], backends: list[int], longest: float
) -> LockWaiting | None:
    """What these sessions wait for that others hold, the longest wait of them; None if nothing."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute("select pid, waits_for, seconds, blocked_by from sqlkit.waiting_lock")
    found = [
        (seconds or 0.0, waits_for, others)
        for pid, waits_for, seconds, blocked_by in cursor.fetchall()
        if pid in backends and (others := sorted(set(blocked_by).difference(backends)))
    ]
    if not found:
        return None
    seconds, waits_for, others = max(found, key=itemgetter(0))
    cursor.execute(
        "select pid, usename, application_name, state, xact_start from pg_catalog.pg_stat_activity"
    )
    known = {row[0]: row[1:] for row in cursor.fetchall()}
    return LockWaiting(
        reason=REASONS["55P03"],
        code=None,
        attempt=0,
        seconds=0.0,
        left=max(0.0, longest - seconds),
        waits_for=waits_for,
        pids=tuple(others),
        holders=tuple(_holder(pid, *known.get(pid, (None,) * 4)) for pid in others),
        waited=seconds,
    )


def _holder(
    pid: int, user: str | None, program: str | None, state: str | None, since: datetime | None
) -> str:
    """A session in words, as far as we may see what it is."""
    if pid == 0:
        return "a prepared transaction"
    told = [f"process {pid}"]
    if user:
        told.append(f"{program} of {user}" if program else f"of {user}")
    if state and since:
        told.append(f"{state} since {since:%Y-%m-%d %H:%M:%S%z}")
    return ", ".join(told)


def is_running(connection: Connection[Any], run_id: int) -> bool:
    """Whether a run is open: nobody has taken its program for dead."""
    found: bool = _value(
        connection,
        "select exists (select from sqlkit.run where run_id = %s and state = 'running')",
        run_id,
    )
    return found


def repair_runs(
    connection: Connection[Any], target: str | None = None, grace: str | None = None
) -> list[Repaired]:
    """Closes the runs whose program is gone, and drops their stages."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        b"select run_id, target, stage::text, action from sqlkit.repair_runs("
        b"%s::regclass, coalesce(%s::interval, '5 minutes'))",
        (target, grace),
    )
    return [Repaired(*row) for row in cursor.fetchall()]


def find_problems(connection: Connection[Any], least_bytes: int) -> list[dict[str, Any]]:
    """What is wrong with the tables, the heaviest first."""
    rows = _value(
        connection,
        "select coalesce(pg_catalog.json_agg(pg_catalog.to_json(p)), '[]')::text "
        "from sqlkit.find_problems(%s) as p",
        least_bytes,
    )
    found: list[dict[str, Any]] = json.loads(rows)
    return found


def advise_settings(
    connection: Connection[Any],
    memory_bytes: int | None,
    cores: int | None,
    storage: str | None,
) -> list[dict[str, Any]]:
    """Settings with what they are and what they should be."""
    rows = _value(
        connection,
        "select coalesce(pg_catalog.json_agg(pg_catalog.to_json(a)), '[]')::text "
        "from sqlkit.advise_settings(%s::bigint, %s::integer, coalesce(%s::text, 'ssd')) as a",
        memory_bytes,
        cores,
        storage,
    )
    found: list[dict[str, Any]] = json.loads(rows)
    return found


def size_load(
    connection: Connection[Any], rows: int, row_bytes: int, key_bytes: int, indexes: int
) -> list[dict[str, Any]]:
    """What a planned load needs."""
    found = _value(
        connection,
        "select pg_catalog.json_agg(pg_catalog.to_json(s))::text "
        "from sqlkit.size_load(%s::bigint, %s::integer, %s::integer, %s::integer) as s",
        rows,
        row_bytes,
        key_bytes,
        indexes,
    )
    sizes: list[dict[str, Any]] = json.loads(found)
    return sizes


MONITOR = {
    "run_progress": "run_id",
    "rows_per_minute": "minute_at",
    "run_speed": "run_id desc",
    "strategy_speed": "target, kind, strategy",
    "slow_batch": "batch_id desc",
    "dead_rows": "dead_rows desc",
    "storage": "total_bytes desc",
    "bloat": "bloat_bytes desc nulls last",
    "open_reject": "run_id",
    "waiting_lock": "seconds desc",
    "maintenance": "run_id desc",
    "run_summary": "run_id desc",
}
"""The views of monitoring, each with the order in which it is read."""


def monitor(
    connection: Connection[Any], view: str, limit: int | None = None
) -> list[dict[str, Any]]:
    """The rows of one of the views of `MONITOR`."""
    rows = _value(
        connection,
        "select coalesce(pg_catalog.json_agg(pg_catalog.to_json(v)), '[]')::text "  # noqa: S608
        f"from (select * from sqlkit.{view} order by {MONITOR[view]} limit %s) as v",
        limit,
    )
    found: list[dict[str, Any]] = json.loads(rows)
    return found


def collect_metrics(connection: Connection[Any]) -> list[dict[str, Any]]:
    """Numbers for a monitoring system: name, kind, help, labels and value."""
    rows = _value(
        connection,
        "select coalesce(pg_catalog.json_agg(pg_catalog.to_json(m)), '[]')::text "
        "from sqlkit.collect_metrics() as m",
    )
    found: list[dict[str, Any]] = json.loads(rows)
    return found


def set_baseline(connection: Connection[Any], run_id: int) -> str:
    """Makes a run the one that others of its target are compared with. Raises SK401."""
    found: str = _value(connection, "select sqlkit.set_baseline(%s)", run_id)
    return found


def measure_runs(connection: Connection[Any], runs: list[int]) -> RunSpeed | None:
    """How fast finished runs of a target were, together, and its baseline."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(b"select m.* from sqlkit.measure_runs(%s) as m", (runs,))
    row = cursor.fetchone()
    return None if row is None else RunSpeed(*row)


def flush_statistics(connection: Connection[Any]) -> None:
    """Has the counters of what this session did to tables be seen by all at once."""
    _value(connection, "select pg_catalog.pg_stat_force_next_flush()")


def note_memory(connection: Connection[Any], run_id: int, peak: int) -> None:
    """Notes the most memory that this program has taken."""
    _value(connection, "select sqlkit.note_memory(%s, %s)", run_id, peak)


def plan_maintenance(
    connection: Connection[Any],
    tables: tuple[str, ...] | None,
    actions: tuple[str, ...],
    least_bytes: int,
    least_ratio: float,
    patience: float,
    lag_bytes: int,
    free_bytes: int | None,
) -> list[MaintenanceStep]:
    """What is to be done for tables, in order."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        b"select action, sqlkit._table_name(table_name), relation, statement, reason, total_bytes, "
        b"gain_bytes, lock, expected_seconds, obstacle "
        b"from sqlkit.plan_maintenance(%s::text[]::regclass[], %s::text[], %s, %s, "
        b"pg_catalog.make_interval(secs => %s), %s, %s)",
        (
            None if tables is None else list(tables),
            list(actions),
            least_bytes,
            least_ratio,
            patience,
            lag_bytes,
            free_bytes,
        ),
    )
    return [MaintenanceStep(*row) for row in cursor.fetchall()]


def start_maintenance(connection: Connection[Any], step: MaintenanceStep, client: str) -> int:
    """Opens a run for a step of a plan; its id."""
    found: int = _value(
        connection,
        "select sqlkit.start_maintenance(%s::text::regclass, %s, %s, %s, %s)",
        step.table,
        step.action,
        step.relation,
        step.statement,
        client,
    )
    return found


def finish_maintenance(
    connection: Connection[Any], run_id: int, code: str | None, message: str | None
) -> tuple[int | None, int | None]:
    """Closes such a run; bytes of the relation before and after. Raises SK401."""
    _value(connection, "select sqlkit.finish_maintenance(%s, %s, %s)", run_id, code, message)
    row = _row(
        connection,
        "select bytes_before, bytes_after from sqlkit.maintenance where run_id = %s",
        run_id,
    )
    return row[0], row[1]


def run_statement(
    connection: Connection[Any], statement: str, lock_wait: float, longest: float | None
) -> None:
    """Runs a statement of a plan, outside transactions, with limits that are taken back."""
    limits = {"lock_timeout": lock_wait, "statement_timeout": longest or 0}
    for name, seconds in limits.items():
        value = f"{max(1, round(seconds * 1000)) if seconds else 0}ms"
        _value(connection, "select pg_catalog.set_config(%s, %s, false)", name, value)
    try:
        connection.execute(statement.encode())
    finally:
        if not connection.closed:
            for name in limits:
                connection.execute(f"reset {name}".encode())


def schedule_maintenance(
    connection: Connection[Any], schedule: str, options: MaintenanceOptions, name: str
) -> int:
    """Has pg_cron maintain the tables; the id of its job. Raises SK701, 22023."""
    found: int = _value(
        connection,
        "select sqlkit.schedule_maintenance(%s, %s::text[]::regclass[], %s::text[], "
        "pg_catalog.make_interval(secs => %s), pg_catalog.make_interval(secs => %s), %s, "
        "pg_catalog.make_interval(secs => %s), %s, %s)",
        schedule,
        list(options.tables) or None,
        list(options.actions),
        options.budget,
        options.lock_timeout,
        options.least_bytes,
        options.patience,
        options.lag_bytes,
        name,
    )
    return found


def unschedule_maintenance(connection: Connection[Any], name: str) -> bool:
    """Takes that back; whether there was such a job. Raises SK701."""
    found: bool = _value(connection, "select sqlkit.unschedule_maintenance(%s)", name)
    return found


def count_active(connection: Connection[Any]) -> int:
    """How many other sessions are at work on the server."""
    found: int = _value(
        connection,
        "select pg_catalog.count(*) from pg_catalog.pg_stat_activity where state = 'active' "
        "and backend_type = 'client backend' and pid <> pg_catalog.pg_backend_pid()",
    )
    return found


def data_directory(connection: Connection[Any]) -> str | None:
    """Where the server keeps its data, for who may see that."""
    found: str | None = _value(
        connection,
        "select pg_catalog.max(setting) from pg_catalog.pg_settings where name = 'data_directory'",
    )
    return found


def drop_stages(connection: Connection[Any], run_id: int) -> None:
    """Drops all stages of a run."""
    _value(connection, "select sqlkit.drop_stages(%s)", run_id)


def check_stages(connection: Connection[Any], stages: list[str], rows: int) -> None:
    """Makes sure that stages hold the rows that were copied into them. Raises SK404."""
    _value(connection, "select sqlkit.check_stages(%s::regclass[], %s)", stages, rows)


def check_loaded(connection: Connection[Any], source_ids: list[int]) -> None:
    """Makes sure that sources are loaded to their ends. Raises SK405."""
    _value(connection, "select sqlkit.check_loaded(%s::bigint[])", source_ids)


def counts_of(connection: Connection[Any], run_id: int) -> dict[int | None, tuple[int, RowCounts]]:
    """Batches and counters of a run, for each source that has batches of its own; under None those
    of the batches that sources share."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        b"select source_id, pg_catalog.count(*), "
        b"pg_catalog.sum(rows_read)::bigint, pg_catalog.sum(rows_inserted)::bigint, "
        b"pg_catalog.sum(rows_updated)::bigint, pg_catalog.sum(rows_unchanged)::bigint, "
        b"pg_catalog.sum(rows_ignored)::bigint, pg_catalog.sum(rows_duplicate)::bigint, "
        b"pg_catalog.sum(rows_rejected)::bigint "
        b"from sqlkit.batch where run_id = %s group by source_id",
        (run_id,),
    )
    return {row[0]: (row[1], RowCounts(*row[2:])) for row in cursor.fetchall()}


def shared_rows_of(connection: Connection[Any], run_id: int) -> dict[int, int]:
    """The rows that a run read of each source in batches that they share."""
    cursor = connection.cursor(row_factory=tuple_row)
    cursor.execute(
        b"select p.source_id, pg_catalog.sum(p.rows_read)::bigint from sqlkit.batch as b "
        b"join sqlkit.batch_part as p on p.batch_id = b.batch_id "
        b"where b.run_id = %s group by p.source_id",
        (run_id,),
    )
    return dict(cursor.fetchall())


def setting(connection: Connection[Any], name: str) -> str:
    """The value of a setting."""
    found: str = _value(connection, "select pg_catalog.current_setting(%s)", name)
    return found


def require_synchronous_commit(connection: Connection[Any]) -> None:
    """Makes this transaction's commit wait for the disk, if not for more."""
    _value(
        connection,
        "select pg_catalog.set_config('synchronous_commit', coalesce("
        "nullif(pg_catalog.current_setting('synchronous_commit'), 'off'), 'on'), true)",
    )


def run_summaries(
    connection: Connection[Any], run_id: int | None, limit: int
) -> list[dict[str, Any]]:
    """The newest runs with their counters, newest first; or the one asked for.

    is_alive tells of one that runs whether its program is there.
    """
    rows = _value(
        connection,
        "select coalesce("
        "pg_catalog.json_agg(pg_catalog.to_json(s) order by s.run_id desc), '[]')::text "
        "from (select r.*, v.rows_per_second, v.client_peak_bytes, v.baseline_run_id, "
        "v.speed_ratio, v.memory_ratio, (select sqlkit._is_alive(q, '5 minutes') "
        "from sqlkit.run as q where q.run_id = r.run_id and q.state = 'running') as is_alive "
        "from sqlkit.run_summary as r "
        "left join sqlkit.run_speed as v on v.run_id = r.run_id "
        "where %s::bigint is null or r.run_id = %s order by r.run_id desc limit %s) as s",
        run_id,
        run_id,
        limit,
    )
    found: list[dict[str, Any]] = json.loads(rows)
    return found


def run_options(connection: Connection[Any], run_id: int) -> dict[str, Any] | None:
    """How a run was called: target, policy, key_columns and options; None if there is none."""
    rows = _value(
        connection,
        "select pg_catalog.json_agg(pg_catalog.to_json(r))::text "
        "from (select target, policy, key_columns, options "
        "from sqlkit.run where run_id = %s) as r",
        run_id,
    )
    return json.loads(rows)[0] if rows else None


def batches_of(connection: Connection[Any], run_id: int) -> list[dict[str, Any]]:
    """The batches of a run in order, each with the name of its source."""
    rows = _value(
        connection,
        "select coalesce("
        "pg_catalog.json_agg(pg_catalog.to_json(b) order by b.batch_id), '[]')::text "
        "from (select b.*, coalesce(s.name, p.source) as source, p.sources, s.fingerprint, "
        "coalesce(s.size_bytes, p.size_bytes) as size_bytes from sqlkit.batch as b "
        "left join sqlkit.source as s using (source_id) "
        "left join lateral (select pg_catalog.count(*) as sources, "
        "pg_catalog.sum(s.size_bytes)::bigint as size_bytes, "
        "pg_catalog.format('%%s sources, %%s the first', pg_catalog.count(*), "
        "(pg_catalog.array_agg(s.name order by p.source_id))[1]) as source "
        "from sqlkit.batch_part as p join sqlkit.source as s on s.source_id = p.source_id "
        "where p.batch_id = b.batch_id having pg_catalog.count(*) > 0) as p on true "
        "where b.run_id = %s) as b",
        run_id,
    )
    found: list[dict[str, Any]] = json.loads(rows)
    return found
