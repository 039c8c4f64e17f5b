-- What a refresh would do, before there is a stage.
begin;
select plan(17);

create table item (id integer primary key, name text);
insert into item select
    i,
    'n' || i
from generate_series(1, 2000) as i;
analyze item;
create table keyless (id integer);

create function pg_temp.foreseen(
    p_strategy text,
    p_rows bigint default null,
    p_share double precision default 1,
    p_scope name[] default null,
    p_target text default 'public.item'
)
returns text
language plpgsql
as $foreseen$
declare
    v_found record;
begin
    select f.*
    into v_found
    from sqlkit.foresee_refresh(
        p_target::regclass, p_strategy, p_rows, p_share => p_share, p_scope => p_scope
    ) as f;
    perform set_config('sqlkit_test.reasons', array_to_string(v_found.reasons, E'\n'), true);
    return concat_ws(': ', v_found.strategy, nullif(array_to_string(v_found.obstacles, '; '), ''));
end;
$foreseen$;

select is(pg_temp.foreseen('auto'), 'mirror', 'a small table is mirrored');
select matches(
    current_setting('sqlkit_test.reasons'), 'rows: 2000 in the table, 2000 in the new', 'of as many rows, unless said'
);
select sqlkit_test.as_admin($$insert into sqlkit.refresh_threshold (name, value) values ('small_rows', 100)$$);
select is(pg_temp.foreseen('auto', 3000), 'truncate', 'all rows are supposed to differ');
select matches(current_setting('sqlkit_test.reasons'), '2000 in the table, 3000 in the new', 'or of those told');
select is(pg_temp.foreseen('auto', 3000, 0.01), 'mirror', 'few of them are told to');
select is(
    (
        select f.reasons[1]
        from sqlkit.foresee_refresh('item', p_bytes => pg_catalog.pg_relation_size('item') * 2) as f
    ),
    'rows: 2000 in the table, 4000 in the new content; indexes: 1',
    'or as many as the bytes of the input may be'
);
select is(pg_temp.foreseen('auto', 3000, 1, '{id}'), 'mirror', 'a scope wants a mirror');
select is(
    pg_temp.foreseen('swap', p_scope => '{id}'),
    'swap: a scope is given, and only mirror keeps what lies outside of it',
    'and no other takes it'
);
select is(pg_temp.foreseen('swap'), 'swap', 'nothing is in its way');
create view seen as select i.id from item as i;
select is(pg_temp.foreseen('swap'), 'swap', 'nor is a view');
select is(
    current_setting('sqlkit_test.reasons'), 'view public.seen is told of the new table', 'which follows'
);
create table other (item_id integer references item);
select matches(pg_temp.foreseen('swap'), '^swap: constraint .* depends on it$', 'a foreign key is');
select is(
    pg_temp.foreseen('truncate'),
    'truncate: foreign key other_item_id_fkey of public.other points at it',
    'of the other too'
);
select throws_ok($$select pg_temp.foreseen('mirror', p_target => 'keyless')$$, 'SK202', null, 'a mirror needs a key');
select throws_ok($$select sqlkit.foresee_refresh('item', p_key => '{name}')$$, 'SK203', null, 'a key that is none');
select throws_ok($$select sqlkit.foresee_refresh('item', p_key => '{nil}')$$, 'SK204', null, 'nor a column');
select throws_ok($$select pg_temp.foreseen('Mirror')$$, 'SK209', null, 'no such strategy');

select * from finish();
rollback;
