-- Maintenance is kept in the ledger: each statement is a run of its own, with sizes before and after.

alter table sqlkit.run drop constraint run_kind_check;
alter table sqlkit.run
add constraint run_kind_check check (kind in ('load', 'merge', 'refresh', 'maintenance'));

-- What earlier runs took and brought is asked for every statement of a plan.
create index run_maintenance_idx on sqlkit.run (((options ->> 'relation')), run_id) where kind = 'maintenance';
