#!/usr/bin/env bash
# JSON lines, read by the server: two COPY streams of whole lines, each converted by its own
# session into an unlogged typed table; then heap first and key afterwards, one transaction.
#
# The lines go through COPY as CSV of one column whose quote and delimiter do not occur in JSON.
# Tried, 1,000,000 lines of 320 bytes on 2 busy cores (seconds):
#   COPY of the lines    one stream 2.75, two streams 1.59 <- this
#   conversion           jsonb_to_record in parallel 3.46 <- this, by one process 6.6;
#                        j ->> 'key' of a jsonb 3.43, json_to_record 4.85,
#                        json_populate_record 4.70, jsonb_populate_record 7.9, json_table 8.1
#   into the table       insert, then the key 1.9 <- this; insert with the key in place 2.5,
#                        sorted by the key first 4.3
set -euo pipefail

half=$(((ROWS + 1) / 2))
stage() {
    psql -Xq -v ON_ERROR_STOP=1 <<SQL
begin;
create unlogged table bench.line_$1 (line text);
\copy bench.line_$1 from program '$GUNZIP "$FILE" | $2' (format csv, quote e'\x01', delimiter e'\x02', freeze)
commit;
set max_parallel_workers_per_gather = 0;
create unlogged table bench.typed_$1 as
select r.*
from
    bench.line_$1 as l,
    jsonb_to_record(l.line::jsonb) as r (
        id bigint, kind text, title text, amount numeric(20, 4), ratio double precision,
        active boolean, at timestamptz, buyer jsonb, tags jsonb
    );
drop table bench.line_$1;
SQL
}
stage 1 "head -n $half" &
first=$!
stage 2 "tail -n +$((half + 1))"
wait $first

psql -Xq -v ON_ERROR_STOP=1 <<'SQL'
begin;
truncate bench.event;
alter table bench.event drop constraint event_pkey;
insert into bench.event
select * from bench.typed_1
union all
select * from bench.typed_2;
set local maintenance_work_mem = '512MB';
alter table bench.event add constraint event_pkey primary key (id);
drop table bench.typed_1, bench.typed_2;
commit;
SQL
