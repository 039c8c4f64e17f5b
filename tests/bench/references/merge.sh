#!/usr/bin/env bash
# Deliver again, into a table that holds most of the rows: two COPY streams into unlogged stages,
# one join that keeps what is new or changed, update by ctid, insert the rest.
#
# Tried, on PostgreSQL 18 with 2 cores, 2,010,000 rows of which 10% are changed (seconds):
#   COPY     one stream 1.15; two streams: head and tail 0.75 <- this, split --number=r/2 0.92,
#            awk by parity 0.99, a Python program that deals out blocks 0.79 to psql and 0.65 to
#            its own connections; FREEZE saves 0.04, and writing hint bits later
#   join     serial 1.5 (the planner's choice: it expects 2,000,000 rows to come out of the
#            filter, each charged parallel_tuple_cost); parallel with work_mem 256MB 0.94, 64MB
#            0.90, 16MB 0.79, 8MB 0.68, 4MB 0.62 <- this, 2MB 0.71, 1MB 0.91: a hash table that
#            stays in the processor's cache beats one that needs no temporary files;
#            two workers 0.79, three 0.87; two without the leader 0.66;
#            `is distinct from` of rows, of columns, or `<>`: the same;
#            stages analyzed first: 0.16 more and the same join
#   update   planned as a hash join of ctid with a scan of the target 1.6 to 1.8; as a nested
#            loop with a TID scan 1.39, in the order of ctid 1.27, in the order of the key 1.04,
#            the same without Memoize (the difference not analyzed) 0.82 <- this: what takes the
#            time is the index, and sorted entries fall into pages that are at hand;
#            one MERGE for update and insert 0.98 with Memoize, no gain without;
#            delete and insert in key order 1.12, but it fires other triggers and cascades
#   wal_compression = pglz   127 MB in place of 210 MB of WAL, and the update takes twice as long
# Repeated keys are left to chance here. To know of them costs 0.46 (parallel sort, distinct),
# 0.44 (self join in parallel, work_mem 2MB), 0.6 to 1.4 (hash aggregate, window functions), or
# 0.07 with a full join in place of the left one: target rows less those that found no partner
# are the keys that were met, and more matches than keys are repetitions.
set -euo pipefail

half=$(((ROWS + 1) / 2))
stage() {
    psql -Xq -v ON_ERROR_STOP=1 <<SQL
begin;
create unlogged table bench.stage_$1 (like bench.price);
\copy bench.stage_$1 from program '$GUNZIP "$FILE" | $2' (format csv, freeze)
commit;
SQL
}
stage 1 "tail -n +2 | head -n $half" &
first=$!
stage 2 "tail -n +$((half + 2))"
wait $first

psql -Xq -v ON_ERROR_STOP=1 <<'SQL'
begin;
set local parallel_tuple_cost = 0;
set local parallel_setup_cost = 0;
set local min_parallel_table_scan_size = 0;
set local max_parallel_workers_per_gather = 1;
set local work_mem = '4MB';
lock table bench.price in share row exclusive mode;
create unlogged table bench.difference as
select s.*, t.ctid as place
from (select * from bench.stage_1 union all select * from bench.stage_2) as s
left join bench.price as t using (product_id, store_id)
where
    t.ctid is null
    or t.supplier_id is distinct from s.supplier_id
    or t.price is distinct from s.price
    or t.currency is distinct from s.currency
    or t.availability is distinct from s.availability
    or t.observed_at is distinct from s.observed_at;
set local work_mem = '64MB';
set local enable_hashjoin = off;
set local enable_mergejoin = off;
set local enable_memoize = off;
update bench.price as t
set
    supplier_id = d.supplier_id,
    price = d.price,
    currency = d.currency,
    availability = d.availability,
    observed_at = d.observed_at
from (
    select * from bench.difference where place is not null order by product_id, store_id offset 0
) as d
where t.ctid = d.place;
insert into bench.price (
    product_id, supplier_id, store_id, price, currency, availability, observed_at
)
select product_id, supplier_id, store_id, price, currency, availability, observed_at
from bench.difference
where place is null
order by product_id, store_id;
drop table bench.difference, bench.stage_1, bench.stage_2;
commit;
SQL
