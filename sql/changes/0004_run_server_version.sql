-- Which server a run ran on: timings before and after an upgrade of PostgreSQL are not the same thing.

alter table sqlkit.run add column server_version text;

comment on column sqlkit.run.server_version is
'the version of PostgreSQL that the run ran on; null for runs of sqlkit 0.1';
