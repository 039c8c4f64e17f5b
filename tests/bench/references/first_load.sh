#!/usr/bin/env bash
# First load into an empty table with a primary key: heap first, key afterwards, one transaction.
#
# Tried, on PostgreSQL 18 with 2 cores and 2,000,000 rows (seconds):
#   COPY FREEZE, then the key with one parallel worker       1.35 + 0.50   <- this
#   the key without workers / with two                        0.61 / 0.53
#   the key with maintenance_work_mem 256MB or 1GB            the same
#   COPY into the table with its key                          4.6
#   decompressed by zcat, pigz, igzip                         1.37 1.32 1.35, COPY is the limit
#   COPY .. FROM PROGRAM inside the server                    1.36, and it needs superuser
#   a Python client that sends 256 kB at a time               1.31
# Two streams cannot fill one table that was created or truncated in the same transaction.
set -euo pipefail

psql -Xq -v ON_ERROR_STOP=1 <<SQL
begin;
truncate bench.price;
alter table bench.price drop constraint price_pkey;
\copy bench.price from program '$GUNZIP "$FILE"' (format csv, header, freeze)
set local maintenance_work_mem = '512MB';
set local max_parallel_maintenance_workers = 1;
alter table bench.price add constraint price_pkey primary key (product_id, store_id);
commit;
SQL
