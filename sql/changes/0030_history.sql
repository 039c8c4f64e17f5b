-- History: how a table keeps versions of its rows.

create type sqlkit.history_key as (
    key_columns name [],
    period name,
    key_match text,
    range_type text,
    subtype text
);

comment on type sqlkit.history_key is
'What keeps the versions of a key apart: the key, the range column, the condition under which rows s (staged) and t
(target) have the same key, the types of the range and of its bounds.';
