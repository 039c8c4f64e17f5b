-- Columns that are named as the queries name their rows, or as what they say of them.
begin;
select plan(4);

create table public.stay (
    s integer primary key,
    o integer,
    "m.o" integer,
    "m.m" integer,
    t text
);
select sqlkit.define_overlap('stays', 'public.stay', array['o'], 'm.o', 'm.m');
select sqlkit.define_duplicate('said', 'public.stay', array['o', 't']);
insert into public.stay values (1, 7, 10, 20, 'x');
select sqlkit.create_stage('public.stay', p_name => 'stay_odd');
insert into sqlkit_stage.stay_odd values (2, 7, 15, 30, 'y'), (3, 7, 12, 14, 'z'), (4, 7, 40, 50, 'x');
select is(
    sqlkit_test.shown(sqlkit.merge_checked_stage('sqlkit_stage.stay_odd', 'trim')),
    '3 read, 1 inserted, 2 rejected',
    'one is cut, of one nothing is left, one is there'
);
select results_eq(
    'select s, "m.o", "m.m" from public.stay order by 1', 'values (1, 10, 20), (2, 20, 30)', 'the piece that is free'
);
select results_eq(
    'select raw::jsonb ->> ''s'', message from sqlkit.reject order by first_line',
    $$values ('3', 'contradicts {"s": 1} by rule stays'), ('4', 'contradicts {"s": 1} by rule said')$$,
    'with the rows that were refused'
);
select results_eq(
    'select raw::jsonb ->> ''t'', span_before, span_after from sqlkit.trimmed_row',
    $$values ('y', '[15,30)', '[20,30)')$$,
    'and the one that was cut'
);

select * from finish();
rollback;
