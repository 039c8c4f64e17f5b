begin;
select plan(7);

create table keyless (a integer, b text);
create table keyed (a integer primary key, b text);
insert into keyless values (1, 'one');
insert into keyed values (1, 'one');

select is(
    sqlkit_test.shown(sqlkit_test.merge('keyless', $$values (1, 'one'), (1, 'one'), (null, null)$$, 'append')),
    '3 read, 3 inserted',
    'a table without a key takes whatever comes'
);
select results_eq(
    'select a, b from keyless order by a',
    $$values (1, 'one'), (1, 'one'), (1, 'one'), (null, null)$$,
    'duplicates and nulls are rows like any other'
);
select throws_ok(
    $$select sqlkit_test.merge('keyed', 'values (2, ''two''), (1, ''uno'')', 'append')$$,
    '23505',
    null,
    'the key of the target holds'
);
select results_eq('select a, b from keyed', $$values (1, 'one')$$, 'nothing of such a batch is kept');
select is(
    sqlkit_test.shown(sqlkit_test.merge('keyed', $$values (2, 'two')$$, 'append')),
    '1 read, 1 inserted',
    'new keys are appended'
);
select is(
    (sqlkit_test.merge('keyed', $$select 1, 'x' where false$$, 'append')).rows_read,
    0::bigint,
    'an empty batch is merged too'
);
select results_eq('select count(*) from keyed', 'values (2::bigint)', 'and changes nothing');

select * from finish();
rollback;
