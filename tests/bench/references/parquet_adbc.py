"""A Parquet file into a table by ADBC: its binary COPY into a stage, and the merge of sqlkit."""

from __future__ import annotations

import os
from urllib.parse import quote

import adbc_driver_postgresql.dbapi
import pyarrow.parquet

uri = "postgresql://{}:{}@{}:{}/{}".format(
    *(
        quote(os.environ[name], safe="")
        for name in ("PGUSER", "PGPASSWORD", "PGHOST", "PGPORT", "PGDATABASE")
    )
)
with (
    adbc_driver_postgresql.dbapi.connect(uri) as connection,
    connection.cursor() as cursor,
    pyarrow.parquet.ParquetFile(os.environ["FILE"]) as file,
):
    cursor.execute("select sqlkit.create_stage('bench.price', p_name => 'parquet')")
    reader = pyarrow.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(65_536))
    cursor.adbc_ingest("parquet", reader, mode="append", db_schema_name="sqlkit_stage")
    cursor.execute("select sqlkit.merge_stage('sqlkit_stage.parquet')")
    cursor.execute("select sqlkit.drop_stage('sqlkit_stage.parquet')")
    connection.commit()
