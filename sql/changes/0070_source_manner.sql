-- The same content may be loaded into the same target in more than one way.

alter table sqlkit.source
add column manner jsonb;

comment on column sqlkit.source.manner is
'what was asked for that decides which rows and columns are written, and how: policy, key, order, columns, map, format
and dialect; null where nobody said so (before 0.3.0): then it counts as loaded in any way';
