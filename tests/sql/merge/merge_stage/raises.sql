begin;
select plan(15);

create table item (id integer primary key, name text, seen timestamptz);
create table keyless (id integer, name text);
create view a_view as
select * from item;
create sequence a_sequence;

select
    throws_ok(
        format('select sqlkit_test.merge(%L, ''values (1)'')', k.relation),
        'SK201',
        'the target is not a table that rows can be loaded into',
        k.relation || ' is no target'
    )
from (values ('a_view'), ('a_sequence'), ('item_pkey')) as k (relation);
select throws_ok(
    $$select sqlkit_test.merge('keyless', 'values (1, ''x'')')$$,
    'SK202',
    'the policy needs a key and the target has none',
    'no key'
);
select throws_ok(
    $$select sqlkit_test.merge('item', 'values (1, ''x'', now())', p_key => '{name}')$$,
    'SK203',
    'no unique index of the target covers exactly the key',
    'a key that nothing makes unique'
);
select throws_ok(
    $$select sqlkit_test.merge('item', 'values (1, ''x'', now())', p_key => '{id,name}')$$,
    'SK203',
    null,
    'a key with a column too many'
);
select throws_ok(
    $$select sqlkit_test.merge('item', 'values (1, ''x'', now())', p_key => '{"no such"}')$$,
    'SK204',
    'key columns that the target does not have: "no such"',
    'a key that is not there'
);
select throws_ok(
    $$select sqlkit_test.merge('item', 'values (''x'')', p_columns => '{name}')$$,
    'SK204',
    'key columns that the input does not have: id',
    'a key that is not loaded'
);
select throws_ok(
    $$select sqlkit_test.merge('item', 'values (1)', p_columns => '{id,colour}')$$,
    'SK204',
    'columns that the target does not have: colour',
    'a column that is not there'
);
select
    throws_ok(
        format('select sqlkit_test.merge(''item'', ''values (1, null, null)'', %L)', k.policy),
        'SK206',
        null,
        coalesce(k.policy, 'null') || ' is no policy'
    )
from (values ('replace'), ('Update'), (null)) as k (policy);
select throws_ok(
    $$select sqlkit_test.merge('item', 'values (1, ''x'', now())', 'newer')$$,
    'SK207',
    'policy newer needs a column to order by',
    'newer by nothing'
);
select throws_ok(
    $$select sqlkit_test.merge('item', 'values (1, ''x'')', 'newer', '{id,name}', p_order_by => 'seen')$$,
    'SK207',
    'column seen, by which the newer row is known, is not in the input',
    'newer by a column that is not loaded'
);
select throws_ok(
    $$select sqlkit.merge_stage('item')$$, 'SK208', 'there is no such stage', 'a table that is no stage'
);

select * from finish();
rollback;
