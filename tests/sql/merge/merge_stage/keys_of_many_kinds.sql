begin;
select plan(16);

create type colour as enum ('red', 'green');
create domain code as text check (value ~ '^[a-z]+$');
create type pair as (a integer, b text);
create table wide (
    a integer,
    b text,
    c date,
    d numeric,
    e boolean,
    value text,
    constraint wide_key unique (d, a, c, b, e)
);
alter table wide alter a set not null,
alter b set not null,
alter c set not null,
alter d set not null,
alter e set not null;
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'wide',
            $$values
            (1, 'x', '2024-01-01'::date, 1.50, true, 'one'),
            (1, 'x', '2024-01-01', 1.5, true, 'same key'),
            (1, 'x', '2024-01-01', 1.5, false, 'another')$$,
            p_key => '{a,b,c,d,e}'
        )
    ),
    '3 read, 2 inserted, 1 duplicate',
    'a key of five columns, in another order than its index'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'wide',
            $$values ('same key', true, '2024-01-01'::date, 'x', 1.500, 1), ('new', true, '2024-01-02', 'x', 1, 1)$$,
            p_columns => '{value,e,c,b,d,a}',
            p_key => '{e,d,c,b,a}'
        )
    ),
    '2 read, 1 inserted, 1 unchanged',
    'columns in another order; a number is the same key with another number of zeros'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('wide', 'select a, b, c, d, e, value from wide', p_key => '{a,b,c,d,e}')),
    '3 read, 3 unchanged',
    'every key is found again'
);

-- One type after the other.
create function pg_temp.round_trip(p_type text, p_values text)
returns text
language plpgsql
as $round_trip$
declare
    v_first sqlkit.row_counts;
    v_second sqlkit.row_counts;
    v_third sqlkit.row_counts;
begin
    execute format('create table kinds (key %s primary key, value integer)', p_type);
    v_first := sqlkit_test.merge('kinds', format('select v, 1 from (values %s) as v (v)', p_values));
    v_second := sqlkit_test.merge('kinds', format('select v, 1 from (values %s) as v (v)', p_values));
    v_third := sqlkit_test.merge(
        'kinds', format('select v, n from (values %s) as v (v), generate_series(2, 3) as n', p_values)
    );
    drop table kinds;
    return concat_ws('; ', sqlkit_test.shown(v_first), sqlkit_test.shown(v_second), sqlkit_test.shown(v_third));
end;
$round_trip$;

select
    is(
        pg_temp.round_trip(k.type, format('(%L::%2$s), (%s::%2$s)', k.one, k.type, quote_literal(k.two))),
        '2 read, 2 inserted; 2 read, 2 unchanged; 4 read, 2 updated, 2 duplicate',
        'a key of type ' || k.type
    )
from (
    values
    ('uuid', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002'),
    ('timestamptz', '2024-01-01 00:00Z', 'infinity'),
    ('bytea', '\x00', '\xff00'),
    ('inet', '10.0.0.1', 'fe80::1'),
    ('colour', 'red', 'green'),
    ('code', 'a', 'b'),
    ('integer[]', '{1,2}', '{}'),
    ('int4range', '[1,5)', 'empty'),
    ('pair', '(1,x)', '(2,)'),
    ('jsonb', '{"a": 1}', '[]'),
    ('bit(3)', '101', '111'),
    ('varchar(5)', 'a', 'A'),
    ('char(5)', 'a', 'b')
) as k (type, one, two);

select * from finish();
rollback;
