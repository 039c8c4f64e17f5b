"""Dicts into a table by asyncpg: binary COPY into a stage, and the merge that sqlkit does too."""

from __future__ import annotations

import asyncio
import os
from operator import itemgetter

import asyncpg
from price_rows import COLUMNS, price_rows


async def load() -> None:
    """All rows in one transaction."""
    connection = await asyncpg.connect(
        host=os.environ["PGHOST"],
        port=int(os.environ["PGPORT"]),
        user=os.environ["PGUSER"],
        password=os.environ["PGPASSWORD"],
        database=os.environ["PGDATABASE"],
    )
    async with connection.transaction():
        await connection.execute("select sqlkit.create_stage('bench.price', p_name => 'rows')")
        await connection.copy_records_to_table(
            "rows",
            schema_name="sqlkit_stage",
            records=map(itemgetter(*COLUMNS), price_rows()),
            columns=COLUMNS,
        )
        await connection.execute("select sqlkit.merge_stage('sqlkit_stage.rows')")
        await connection.execute("select sqlkit.drop_stage('sqlkit_stage.rows')")
    await connection.close()


asyncio.run(load())
