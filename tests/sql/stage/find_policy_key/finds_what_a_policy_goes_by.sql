begin;
select plan(9);

create table item (
    id integer primary key,
    "a net" inet not null,
    "the range" tstzrange not null,
    constraint item_excl exclude using gist ("a net" inet_ops with =, "the range" with &&)
);

select is(sqlkit.find_policy_key('item', 'append'), null, 'append goes by no key');
select is(sqlkit.find_policy_key('item', 'update'), '{id}'::name[], 'update by the primary key');
select is(sqlkit.find_policy_key('item', 'history'), '{"a net"}'::name[], 'history by the constraint on versions');
select is(sqlkit.find_policy_key('item', 'history', '{"a net"}'), '{"a net"}'::name[], 'which may be named');
select throws_ok($$select sqlkit.find_policy_key('item', 'history', '{id}')$$, 'SK212', null, 'no history of this key');
select throws_ok($$select sqlkit.find_policy_key('item', 'update', '{"a net"}')$$, 'SK203', null, 'not unique');
select throws_ok($$select sqlkit.find_policy_key('item', 'update', '{no}')$$, 'SK204', null, 'no such column');
select throws_ok($$select sqlkit.find_policy_key('pg_catalog.pg_settings', 'history')$$, 'SK201', null, 'no table');
alter table item drop constraint item_pkey;
select throws_ok($$select sqlkit.find_policy_key('item', 'update')$$, 'SK202', null, 'no primary key');

select * from finish();
rollback;
