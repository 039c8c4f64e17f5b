-- What a role needs is what it needs for the statements themselves, and sqlkit's own tables.
begin;
select plan(5);

create table item (id integer primary key, name text);
insert into item values (1, 'one');
select sqlkit_test.create_plain_role() as role \gset
select sqlkit_test.grant_sqlkit(:'role');
select sqlkit_test.grant_on('item', :'role', 'select');

select set_config('role', :'role', true);
select throws_ok(
    $$select sqlkit_test.merge('item', 'values (1, ''x'')')$$,
    '42501',
    null,
    'the target cannot be written'
);
reset role;
select sqlkit_test.grant_on('item', :'role', 'insert, update');
select set_config('role', :'role', true);
select is(
    sqlkit_test.shown(sqlkit_test.merge('item', $$values (1, 'uno'), (2, 'two')$$)),
    '2 read, 1 inserted, 1 updated',
    'select, insert and update are enough'
);
reset role;

-- Row security speaks for the caller.
alter table item enable row level security;
create policy own on item using (id < 100) with check (id < 100);
select set_config('role', :'role', true);
select is(
    sqlkit_test.shown(sqlkit_test.merge('item', $$values (1, 'eins'), (3, 'three')$$)),
    '2 read, 1 inserted, 1 updated',
    'rows that the policy allows'
);
select throws_ok(
    $$select sqlkit_test.merge('item', 'values (100, ''x'')')$$,
    '42501',
    null,
    'a row that it does not'
);
reset role;
select results_eq(
    'select id, name from item order by id',
    $$values (1, 'eins'), (2, 'two'), (3, 'three')$$,
    'the end state'
);

select * from finish();
rollback;
