begin;
select plan(8);

create table reading (
    day date,
    sensor integer,
    value numeric,
    primary key (day, sensor)
) partition by range (day);
create table reading_1 partition of reading for values from ('2024-01-01') to ('2024-02-01');
create table reading_2 partition of reading for values from ('2024-02-01') to ('2024-03-01')
partition by list (sensor);
create table reading_2_odd partition of reading_2 for values in (1, 3);
-- A partition whose columns lie otherwise.
create table reading_2_even (value numeric, sensor integer not null, gone text, day date not null);
alter table reading_2_even drop column gone;
alter table reading_2 attach partition reading_2_even for values in (2, 4);

select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'reading',
            $$values ('2024-01-05'::date, 1, 1.0), ('2024-02-05', 1, 2.0), ('2024-02-05', 2, 3.0),
            ('2024-02-05', 2, 4.0)$$
        )
    ),
    '4 read, 3 inserted, 1 duplicate',
    'rows find their partitions'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'reading',
            $$values
            ('2024-01-05'::date, 1, 1.0), ('2024-02-05', 1, 2.5), ('2024-02-05', 2, 4.5), ('2024-01-06', 1, 9.0),
            ('2024-02-05', 4, 9.0)$$
        )
    ),
    '5 read, 2 inserted, 2 updated, 1 unchanged',
    'and are found in them again, also where the same place is taken in several'
);
select results_eq(
    'select day, sensor, value from reading order by day, sensor',
    $$values
    ('2024-01-05'::date, 1, 1.0), ('2024-01-06', 1, 9.0), ('2024-02-05', 1, 2.5), ('2024-02-05', 2, 4.5),
    ('2024-02-05', 4, 9.0)$$,
    'the end state'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge('reading', $$values ('2024-01-05'::date, 1, 7), ('2024-01-07', 1, 7)$$, 'ignore')
    ),
    '2 read, 1 inserted, 1 ignored',
    'ignore'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'reading', $$values ('2024-01-05'::date, 1, 0.5), ('2024-01-07', 1, 8)$$, 'newer', p_order_by => 'value'
        )
    ),
    '2 read, 1 updated, 1 ignored',
    'newer'
);
select throws_ok(
    $$select sqlkit_test.merge('reading', 'values (''2025-01-05''::date, 1, 1.0)')$$,
    '23514',
    null,
    'a row without a partition'
);

-- A partition as the target, and a parent of ordinary tables: each holds the rows of its own.
select is(
    sqlkit_test.shown(sqlkit_test.merge('reading_2_odd', $$values ('2024-02-05'::date, 1, 5), ('2024-02-06', 3, 6)$$)),
    '2 read, 1 inserted, 1 updated',
    'a partition by itself'
);
create table animal (id integer primary key, name text);
create table dog (breed text, primary key (id)) inherits (animal);
insert into animal values (1, 'some animal');
insert into dog values (2, 'some dog', 'pug');
select is(
    sqlkit_test.shown(sqlkit_test.merge('animal', $$values (1, 'some animal'), (3, 'another')$$)),
    '2 read, 1 inserted, 1 unchanged',
    'a parent of other tables'
);

select * from finish();
rollback;
