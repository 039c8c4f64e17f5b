begin;
select plan(8);

create table item (id integer primary key, name text);
insert into item values (1, 'one');

prepare existing as
select sqlkit_test.merge('item', $$values (2, 'two'), (1, 'one')$$, 'error');
prepare repeated as
select sqlkit_test.merge('item', $$values (2, 'two'), (3, 'x'), (3, 'x')$$, 'error');

select throws_ok('existing', 'SK302', '1 rows with the keys of the input exist already', 'a key that exists');
select throws_ok('repeated', 'SK303', '1 rows repeat a key of the same batch', 'a key that comes twice');
select results_eq('select * from item', $$values (1, 'one')$$, 'nothing of such batches is kept');
select is(
    sqlkit_test.shown(sqlkit_test.merge('item', $$values (2, 'two'), (3, 'three')$$, 'error')),
    '2 read, 2 inserted',
    'new keys are inserted'
);

create table hollow (id integer primary key, name text);
select throws_ok(
    $$select sqlkit_test.merge('hollow', 'values (1, ''a''), (1, ''b'')', 'error')$$,
    'SK303',
    null,
    'repeated keys in an empty table'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('hollow', $$values (1, 'a'), (2, 'b')$$, 'error')),
    '2 read, 2 inserted',
    'into an empty table'
);

-- What the error tells: the keys, at most five.
create function pg_temp.told(p_rows text)
returns text
language plpgsql
as $told$
declare
    v_detail text;
begin
    perform sqlkit_test.merge('item', p_rows, 'error');
    return null;
exception
    when sqlstate 'SK302' or sqlstate 'SK303' then
        get stacked diagnostics v_detail = pg_exception_detail;
        return v_detail;
end;
$told$;

select is(pg_temp.told($$values (2, 'x')$$), 'Keys (id): (2).', 'the key that exists');
select is(pg_temp.told($$values (9, 'x'), (9, 'y'), (10, 'z')$$), 'Keys (id): (9).', 'the key that comes twice');

select * from finish();
rollback;
