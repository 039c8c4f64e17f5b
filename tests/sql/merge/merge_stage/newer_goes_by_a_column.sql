begin;
select plan(9);

create table item (id integer primary key, name text, seen timestamptz);

select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'item',
            $$values
            (1, 'old', '2024-01-01'::timestamptz),
            (1, 'new', '2024-03-01'),
            (1, 'mid', '2024-02-01'),
            (2, 'never', null),
            (2, 'once', '2024-01-01'),
            (3, 'tie a', '2024-01-01'),
            (3, 'tie b', '2024-01-01'),
            (4, 'null a', null),
            (4, 'null b', null)$$,
            'newer',
            p_order_by => 'seen'
        )
    ),
    '9 read, 4 inserted, 5 duplicate',
    'inside a batch the greatest is taken; of equal ones the first; a null is the least'
);
select results_eq(
    'select id, name from item order by id',
    $$values (1, 'new'), (2, 'once'), (3, 'tie a'), (4, 'null a')$$,
    'which ones'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'item',
            $$values (1, 'older', '2024-02-15'::timestamptz), (2, 'newer', '2024-01-02'),
            (4, 'at last', '1990-01-01')$$,
            'newer',
            p_order_by => 'seen'
        )
    ),
    '3 read, 2 updated, 1 ignored',
    'an older row is ignored, a newer one updates, any value is newer than null'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'item',
            $$values (1, 'new', '2024-03-01'::timestamptz), (2, 'other', '2024-01-02'), (3, 'x', null),
            (5, 'y', null)$$,
            'newer',
            p_order_by => 'seen'
        )
    ),
    '4 read, 1 inserted, 1 unchanged, 2 ignored',
    'the same row is unchanged; a tie keeps what is there; a null never wins'
);
select results_eq(
    'select id, name from item order by id',
    $$values (1, 'new'), (2, 'newer'), (3, 'tie a'), (4, 'at last'), (5, 'y')$$,
    'the end state'
);

-- The order of a type is its own: of enums as declared, of domains as their base, of ranges too.
create type grade as enum ('low', 'middle', 'high');
create domain version_number as integer;
create type span as range (subtype = integer);
create table graded (id integer primary key, grade grade, version version_number, span span, names text[]);
insert into graded values (1, 'low', 9, '[1,5)', '{b}'), (2, 'high', 10, '[3,9)', '{c}');
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'graded',
            $$values (1, 'middle'::grade, 9, '[1,5)'::span, '{b}'::text[]), (2, 'middle', 10, '[3,9)', '{c}')$$,
            'newer',
            p_order_by => 'grade'
        )
    ),
    '2 read, 1 updated, 1 ignored',
    'by an enum'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'graded',
            $$values (1, 'low'::grade, 10, '[1,5)'::span, '{b}'::text[]), (2, 'low', 9, '[3,9)', '{c}')$$,
            'newer',
            p_order_by => 'version'
        )
    ),
    '2 read, 1 updated, 1 ignored',
    'by a domain'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'graded',
            $$values (1, 'low'::grade, 10, '[2,5)'::span, '{b}'::text[]), (2, 'low', 9, '[2,9)', '{c}'),
            (2, 'low', 9, '[1,9)', '{c}')$$,
            'newer',
            p_order_by => 'span'
        )
    ),
    '3 read, 1 updated, 1 ignored, 1 duplicate',
    'by a range that somebody has made'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'graded',
            $$values (1, 'low'::grade, 10, '[2,5)'::span, '{c}'::text[]), (2, 'low', 9, '[2,9)', '{a,z}')$$,
            'newer',
            p_order_by => 'names'
        )
    ),
    '2 read, 1 updated, 1 ignored',
    'by an array'
);

select * from finish();
rollback;
