#!/usr/bin/env bash
# JSON lines, read by DuckDB: its reader converts with all cores and writes CSV into a pipe, COPY
# FREEZE takes it into the heap, the key is added afterwards, one transaction.
#
# It is the fastest reader of JSON at hand, and it is not exact: it reads numbers as doubles, so
# amounts of more than 15 digits come out changed (61186198443907.1001 as .0976), even where the
# column is DECIMAL, VARCHAR or JSON. The result is therefore not compared.
set -euo pipefail

psql -Xq -v ON_ERROR_STOP=1 <<SQL
begin;
truncate bench.event;
alter table bench.event drop constraint event_pkey;
\copy bench.event from program '$PYTHON "$HERE/references/duckdb_csv.py" "$FILE"' (format csv, freeze)
set local maintenance_work_mem = '512MB';
set local max_parallel_maintenance_workers = 1;
alter table bench.event add constraint event_pkey primary key (id);
commit;
SQL
