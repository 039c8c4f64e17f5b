-- A rule that could not be detected is refused when it is made.
begin;
select plan(4);

create table visit (id integer primary key, carer integer, starts integer, ends integer, place point);
create view seen as select * from visit;
select throws_ok(
    $$select sqlkit.define_duplicate('r', 'visit', array['carers'])$$, 'SK204', null, 'a column that is not there'
);
select throws_ok(
    $$select sqlkit.define_duplicate('r', 'seen', array['carer'])$$, 'SK202', null, 'a view without a key named'
);
select throws_ok(
    $$select sqlkit.define_duplicate('r', 'visit', array['place'])$$, 'SK801', null, 'what PostgreSQL cannot compare'
);
select is((select count(*) from sqlkit.conflict_rule), 0::bigint, 'nothing of all that is there');

select * from finish();
rollback;
