-- A rule that could not be detected is refused when it is made.
begin;
select plan(5);

create table visit (id integer primary key, carer integer, starts integer, ends integer, place point);
create view seen as select * from visit;
select throws_ok(
    $$select sqlkit.define_distance('r', 'visit', array['carers'], '1', 'starts', 'ends')$$,
    'SK204',
    null,
    'a column that is not there'
);
select throws_ok(
    $$select sqlkit.define_distance('r', 'seen', array['carer'], '1', 'starts', 'ends')$$,
    'SK202',
    null,
    'a view without a key named'
);
select throws_ok(
    $$select sqlkit.define_distance('r', 'visit', array['carer'], 'far', 'starts', 'ends')$$,
    'SK801',
    null,
    'what PostgreSQL cannot compare'
);
select throws_ok(
    $$select sqlkit.define_distance('r', 'visit', array['carer'], null, 'starts', 'ends')$$, 'SK801', null, 'no gap'
);
select is((select count(*) from sqlkit.conflict_rule), 0::bigint, 'nothing of all that is there');

select * from finish();
rollback;
