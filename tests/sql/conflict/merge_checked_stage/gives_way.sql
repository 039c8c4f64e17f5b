-- Rows that contradict what is there, or an earlier one, are refused or cut.
begin;
select plan(16);

create table visit (
    id integer primary key, carer integer, starts integer, ends integer, place text not null default 'home'
);
insert into visit values (1, 1, 10, 20), (2, 1, 30, 40), (3, 2, 0, 100);
select sqlkit.define_overlap('busy', 'visit', array['carer'], 'starts', 'ends');
create function pg_temp.staged() returns void language plpgsql as $$
begin
    perform sqlkit.create_stage('visit', array['id', 'carer', 'starts', 'ends'], 'visit_today');
    insert into sqlkit_stage.visit_today values
    (10, 1, 15, 25),    -- overlaps 1
    (11, 1, 24, 28),    -- overlaps only the first, which is refused
    (12, 1, 26, 35),    -- overlaps 2, and the second
    (2, 1, 50, 60),     -- moves 2 away
    (13, 1, 30, 32),    -- free then
    (14, 3, 0, 9),
    (15, null, 0, 9),
    (16, 2, 5, 9);      -- inside of 3
end;
$$;

-- reject
savepoint before; -- noqa: PRS
select pg_temp.staged();
select is(
    sqlkit_test.shown(sqlkit.merge_checked_stage('sqlkit_stage.visit_today', 'reject')),
    '8 read, 4 inserted, 1 updated, 3 rejected', 'counters add up'
);
select results_eq(
    $$select r.record, r.column_name, r.sqlstate, r.message from sqlkit.reject as r order by r.record$$,
    $$values
    (1::bigint, 'starts', 'SK806', 'contradicts {"id": 1} by rule busy'),
    (3::bigint, 'starts', 'SK806', 'contradicts line 2 by rule busy'),
    (8::bigint, 'starts', 'SK806', 'contradicts {"id": 3} by rule busy')$$,
    'place and reason'
);
select is(
    (select r.raw::jsonb from sqlkit.reject as r where r.record = 1),
    '{"id": 10, "carer": 1, "starts": 15, "ends": 25}'::jsonb, 'and the row'
);
select results_eq(
    'select id, starts, ends from visit order by id',
    'values (1, 10, 20), (2, 50, 60), (3, 0, 100), (11, 24, 28), (13, 30, 32), (14, 0, 9), (15, 0, 9)',
    'the end state'
);
select is((sqlkit.detect_conflicts('busy')).pairs_open, 0::bigint, 'nothing contradicts');
select is((select count(*) from sqlkit_stage.visit_today), 0::bigint, 'the stage is empty');
rollback to savepoint before;

-- trim
select pg_temp.staged();
select is(
    sqlkit_test.shown(sqlkit.merge_checked_stage('sqlkit_stage.visit_today', 'trim')),
    '8 read, 5 inserted, 1 updated, 2 rejected', 'only two have nothing left'
);
select results_eq(
    'select id, starts, ends from visit order by id',
    'values (1, 10, 20), (2, 50, 60), (3, 0, 100), (10, 20, 25), (11, 25, 28), (12, 28, 35), (14, 0, 9), (15, 0, 9)',
    'cut in the order of the lines; of 13 nothing is left'
);
select results_eq(
    $$select t.record, t.rule, t.message, t.span_before, t.span_after
    from sqlkit.trimmed_row as t order by t.record$$,
    $$values
    (1::bigint, 'busy', 'overlaps {"id": 1}', '[15,25)', '[20,25)'),
    (2::bigint, 'busy', 'overlaps line 1', '[24,28)', '[25,28)'),
    (3::bigint, 'busy', 'overlaps line 2', '[26,35)', '[28,35)')$$,
    'what was cut is kept'
);
select is((select count(*) from sqlkit.reject), 2::bigint, 'refused');
rollback to savepoint before;

-- A row that is refused hides nothing: neither one of its key before it, nor the one in the table.
insert into visit values (20, 9, 0, 10), (21, 9, 50, 60);
select sqlkit.create_stage('visit', array['id', 'carer', 'starts', 'ends'], 'visit_today');
insert into sqlkit_stage.visit_today values
(21, 9, 5, 7),      -- would leave 50 to 60, and may not
(22, 9, 55, 58),    -- free only if it had
(23, 9, 20, 30),    -- replaced by the next one, which is refused
(23, 9, 1, 2);
select is(
    sqlkit_test.shown(sqlkit.merge_checked_stage('sqlkit_stage.visit_today', 'reject')),
    '4 read, 1 inserted, 3 rejected', 'told in the end'
);
select results_eq(
    'select id, starts, ends from visit where carer = 9 order by id',
    'values (20, 0, 10), (21, 50, 60), (23, 20, 30)', 'what stays contradicts nothing'
);
rollback to savepoint before;

-- Policies: what is not written contradicts nothing.
select sqlkit.create_stage('visit', array['id', 'carer', 'starts', 'ends'], 'visit_today');
insert into sqlkit_stage.visit_today values (1, 2, 5, 6), (30, 2, 200, 201);
select is(
    sqlkit_test.shown(sqlkit.merge_checked_stage('sqlkit_stage.visit_today', 'reject', 'ignore')),
    '2 read, 1 inserted, 1 ignored', 'a key that is there'
);

select throws_ok(
    $$select sqlkit.merge_checked_stage('sqlkit_stage.visit_today', 'report')$$, 'SK805', null, 'no such way'
);
select throws_ok(
    $$select sqlkit.merge_checked_stage('sqlkit_stage.visit_today', 'reject', 'fill')$$, 'SK805', null, 'not under fill'
);
select throws_ok(
    $$select sqlkit.merge_checked_stage('visit', 'reject')$$, 'SK208', null, 'no stage'
);

select * from finish();
rollback;
