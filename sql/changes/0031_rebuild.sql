-- Loads decide by a threshold whether indexes are kept or built anew.

insert into sqlkit.refresh_threshold (name, is_default, value, meaning)
values
(
    'rebuild_share', true, 0.1,
    'a load that writes at least this share of the rows that the table then holds builds its other indexes afterwards'
);

comment on table sqlkit.refresh_threshold is
'What strategy auto of a refresh decides by, and a load that may build indexes afterwards. Defaults come with sqlkit; a
row beside one, with is_default = false, takes its place.';
