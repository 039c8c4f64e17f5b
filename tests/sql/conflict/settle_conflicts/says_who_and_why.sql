-- What somebody says of a conflict is kept, with his name and the time.
begin;
select plan(9);

create table visit (id integer primary key, carer integer, starts integer, ends integer);
insert into visit values (1, 1, 0, 4), (2, 1, 2, 6), (3, 2, 2, 6), (4, 2, 2, 6);
select sqlkit.define_overlap('said', 'visit', array['carer'], 'starts', 'ends');
select sqlkit.detect_conflicts('said');
select
    pg_catalog.array_agg(conflict_id) as ids,
    min(conflict_id) as id
from sqlkit.conflict \gset
select results_eq(
    'select found_by, changed_by from sqlkit.conflict',
    'values (current_user, null::name), (current_user, null)',
    'who found them'
);
select sqlkit_test.create_plain_role() as role \gset
select sqlkit_test.grant_sqlkit(:'role');
select is(sqlkit.settle_conflicts(:'ids', 'resolved', 'moved'), 2::bigint, 'two are resolved');
select is(sqlkit.settle_conflicts(:'ids', 'resolved', 'again'), 0::bigint, 'they were already');
select is(sqlkit.settle_conflicts(array[:id], 'open'), 1::bigint, 'one is open again');
select results_eq(
    $$select state, note, changed_by from sqlkit.conflict order by conflict_id$$,
    $$values ('open', null, current_user), ('resolved', 'moved', current_user)$$,
    'who, and why'
);
select results_eq(
    $$select action, state_before, note, database_user from sqlkit.conflict_event order by conflict_event_id$$,
    $$values
    ('resolved', 'open', 'moved', current_user), ('resolved', 'open', 'moved', current_user),
    ('open', 'resolved', null, current_user)$$,
    'the history'
);
select current_user as me \gset
select set_config('role', :'role', true);
select sqlkit.settle_conflicts(array[:id], 'ignored');
reset role;
select results_eq(
    pg_catalog.format('select found_by, changed_by from sqlkit.conflict where conflict_id = %s', :id),
    pg_catalog.format('values (%L::name, %L::name)', :'me', :'role'),
    'who found it and who settled it, both are known'
);
select throws_ok(
    pg_catalog.format('select sqlkit.settle_conflicts(array[%s, -1], %L)', :id, 'ignored'),
    'SK804',
    null,
    'one that is not there'
);
select throws_ok(
    pg_catalog.format('select sqlkit.settle_conflicts(array[%s], %L)', :id, 'forgotten'), '23514', null, 'no such state'
);

select * from finish();
rollback;
