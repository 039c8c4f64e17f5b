-- What was decided about the indexes of a batch's target is kept beside what became of its rows.

alter table sqlkit.batch add column indexes text;

comment on column sqlkit.batch.indexes is
'whether the indexes that no key needs were kept or built after the rows, and why; null where there was no question';
