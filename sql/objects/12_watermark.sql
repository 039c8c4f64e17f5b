-- Watermarks: how far a source that is loaded again and again has been loaded.

create or replace function sqlkit.find_watermark(p_target regclass, p_source text, p_column text)
returns text
language sql
stable
return (
    select w.value
    from sqlkit.watermark as w
    where w.target = sqlkit._table_name(p_target) and w.source = p_source and w.column_name = p_column
);

comment on function sqlkit.find_watermark(regclass, text, text) is
'How far a source has been loaded into a target, by a column of the source; null if it never was.';


create or replace function sqlkit.find_watermarks(p_target regclass, p_sources text[], p_column text)
returns table (source text, value text)
language sql
stable
begin atomic
    select
        w.source,
        w.value
    from sqlkit.watermark as w
    where w.target = sqlkit._table_name(p_target) and w.source = any(p_sources) and w.column_name = p_column;
end;

comment on function sqlkit.find_watermarks(regclass, text[], text) is
'As find_watermark(), of many sources at once: those that have one.';


create or replace function sqlkit.set_watermark(
    p_target regclass,
    p_source text,
    p_column text,
    p_value text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $set_watermark$
begin
    if p_value is null then
        delete from sqlkit.watermark as w
        where w.target = sqlkit._table_name(p_target) and w.source = p_source and w.column_name = p_column;
        return;
    end if;
    insert into sqlkit.watermark (target, source, column_name, value)
    values (sqlkit._table_name(p_target), p_source, p_column, p_value)
    on conflict on constraint watermark_pkey do update
    set value = excluded.value, moved_at = excluded.moved_at;
end;
$set_watermark$;

comment on function sqlkit.set_watermark(regclass, text, text, text) is
'Says by hand how far a source has been loaded: the next load fetches what has at least that value. Null: all of it.
Writes: sqlkit.watermark. Locks: its row, until commit.';


create or replace function sqlkit.note_watermark(
    p_source_id bigint,
    p_source text,
    p_column text,
    p_since text,
    p_value text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $note_watermark$
begin
    insert into sqlkit.source_watermark (source_id, source, column_name, since, value)
    values (p_source_id, p_source, p_column, p_since, p_value)
    on conflict on constraint source_watermark_pkey do update
    set since = excluded.since, value = excluded.value;
end;
$note_watermark$;

comment on function sqlkit.note_watermark(bigint, text, text, text, text) is
'Says where the watermark of a source is to stand when all of it is loaded: record_batch() moves it with the last
rows, provided that it still stands at p_since (null: there is none). Writes: sqlkit.source_watermark.
Raises: 23503 for a source that there is not.';


create or replace function sqlkit._move_watermark(p_source_id bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $move_watermark$
declare
    v_target text;
    v_moved sqlkit.source_watermark;
begin
    select m.*
    into v_moved
    from sqlkit.source_watermark as m
    where m.source_id = p_source_id;
    if not found then
        return;
    end if;
    select s.target
    into v_target
    from sqlkit.source as s
    where s.source_id = p_source_id;
    if v_moved.since is null then
        insert into sqlkit.watermark (target, source, column_name, value)
        values (v_target, v_moved.source, v_moved.column_name, v_moved.value)
        on conflict on constraint watermark_pkey do nothing;
    else
        update sqlkit.watermark as w
        set value = v_moved.value, moved_at = clock_timestamp()
        where w.target = v_target
            and w.source = v_moved.source
            and w.column_name = v_moved.column_name
            and w.value = v_moved.since;
    end if;
    if not found then
        raise exception using
            errcode = 'SK411',
            message = 'the watermark was moved by somebody else',
            detail = format('Column %s of %s: it stood at %s.', v_moved.column_name, v_moved.source,
                coalesce(v_moved.since, 'nothing')),
            hint = 'Load again: what is newer than it is now is fetched.';
    end if;
end;
$move_watermark$;

comment on function sqlkit._move_watermark(bigint) is
'Moves the watermark of a source of which all is loaded, if one was noted. Writes: sqlkit.watermark. Locks: its row,
until commit. Raises: SK411 if it does not stand where it stood when the source was read.';
