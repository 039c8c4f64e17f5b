-- Equality is that of the index: citext's, that of a collation.
begin;

select
    exists(
        select from pg_available_extensions
        where name = 'citext'
    ) as has_citext
\gset
do $make_collation$
begin
    create collation caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
exception
    when feature_not_supported then
        null;
end
$make_collation$;
select to_regcollation('caseless') is not null as has_icu \gset

select plan(10);

\if :has_citext
select sqlkit_test.create_schema('elsewhere');
select sqlkit_test.as_admin('create extension citext schema elsewhere');
create table account (email elsewhere.citext primary key, name text, alias elsewhere.citext);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge(
            'account', $$values ('a@x.org', 'first', 'A'), ('A@X.ORG', 'last', 'a'), ('b@x.org', 'b', null)$$
        )
    ),
    '3 read, 2 inserted, 1 duplicate',
    'citext in another schema: inside a batch'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge('account', $$values ('A@x.org', 'last', 'a'), ('B@x.org', 'b', 'B'), ('c@x.org', 'c', null)$$)
    ),
    '3 read, 1 inserted, 1 updated, 1 unchanged',
    'citext: against what is there'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('account', $$values ('a@x.org', 'last', 'A')$$)),
    '1 read, 1 updated',
    'citext that is no key: another writing is a change'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge('account', $$values ('C@X.org', null, 'x'), ('c@X.org', 'd', 'y')$$, 'fill')
    ),
    '2 read, 1 updated, 1 duplicate',
    'citext: fill'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge('account', $$values ('a@x.ORG', 'last', 'B')$$, 'newer', p_order_by => 'alias')
    ),
    '1 read, 1 updated',
    'citext to order by'
);
\else
select skip('this server has no citext', 5);
\endif

\if :has_icu
create table word (word text collate caseless primary key, note text, other text collate caseless);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge('word', $$values ('Apple', 'first', 'x'), ('APPLE', 'last', 'x'), ('pear', 'p', 'y')$$)
    ),
    '3 read, 2 inserted, 1 duplicate',
    'a collation for which case is nothing: inside a batch'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge('word', $$values ('apple', 'last', 'x'), ('Pear', 'q', 'y'), ('Plum', 'n', 'z')$$)
    ),
    '3 read, 1 inserted, 1 updated, 1 unchanged',
    'against what is there'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('word', $$values ('APPLE', 'last', 'X')$$)),
    '1 read, 1 updated',
    'in a column that is no key, another writing is a change'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('word', $$values ('PLUM', 'n', 'z'), ('plum', 'n', 'z')$$, 'ignore')),
    '2 read, 1 ignored, 1 duplicate',
    'ignore'
);
select throws_ok(
    $$select sqlkit_test.merge('word', $q$values ('Fig', 'n', 'z'), ('fig', 'n', 'z')$q$, 'error')$$,
    'SK303',
    null,
    'error'
);
\else
select skip('this server was built without ICU', 5);
\endif

select * from finish();
rollback;
