-- Where a refused row stood in a source whose records are not lines: its number, besides the lines, if there are any.

alter table sqlkit.reject add column record bigint;

comment on column sqlkit.reject.record is
'number of the record in its source, from 1, where it is not a matter of lines: an element of a JSON array, whose lines
are told too, a record of XML, a row of a file, of a query or of Python, which have no lines; null for CSV and JSON
lines';

alter table sqlkit.trimmed_row add column record bigint;

comment on column sqlkit.trimmed_row.record is
'number of the record in its source, from 1, where it is not a matter of lines, as in sqlkit.reject';
