-- Comparisons of tables are runs: so their copies are dropped, whatever becomes of the program.

alter table sqlkit.run drop constraint run_kind_check;
alter table sqlkit.run
add constraint run_kind_check
check (kind in ('load', 'merge', 'refresh', 'maintenance', 'transform', 'compare'));
