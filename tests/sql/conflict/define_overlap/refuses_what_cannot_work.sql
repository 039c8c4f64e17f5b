-- A rule that could not be detected is refused when it is made.
begin;
select plan(11);

create table visit (id integer primary key, carer integer, starts integer, ends integer, place point, name text);
create view seen as select * from visit;

select throws_ok(
    $$select sqlkit.define_overlap('r', 'visit', array['carers'], 'starts', 'ends')$$,
    'SK204', 'columns that are not there: carers', 'a resource that is no column'
);
select throws_ok(
    $$select sqlkit.define_overlap('r', 'visit', array['carer'], 'starts', 'end')$$,
    'SK204', null, 'an end that is no column'
);
select throws_ok(
    $$select sqlkit.define_overlap('r', 'visit', array['carer'], 'starts', 'ends', p_key => array['visit'])$$,
    'SK204', null, 'a key that is no column'
);
select throws_ok(
    $$select sqlkit.define_overlap('r', 'seen', array['carer'], 'starts', 'ends')$$,
    'SK202', null, 'a view without a key named'
);
select throws_ok(
    $$select sqlkit.define_overlap('r', 'visit', array['carer'], 'starts')$$, 'SK801', null, 'half an interval'
);
select throws_ok(
    $$select sqlkit.define_overlap('r', 'visit', '{}', 'starts', 'ends')$$, 'SK801', null, 'no resource'
);
select throws_ok(
    $$select sqlkit.define_overlap('r', 'visit', array['carer'], p_range => 'starts')$$,
    'SK801', null, 'a range that is none'
);
select throws_ok(
    $$select sqlkit.define_overlap('r', 'visit', array['carer'], 'starts', 'ends', p_bounds => '[')$$,
    'SK801', null, 'bounds that are none'
);
select throws_ok(
    $$select sqlkit.define_overlap('r', 'visit', array['place'], 'starts', 'ends')$$,
    'SK801', null, 'a resource that cannot be sorted'
);
select throws_ok(
    $$select sqlkit.define_distance('r', 'visit', array['carer'], 'far', 'starts', 'ends')$$,
    'SK801', null, 'a gap that is none'
);
select is((select count(*) from sqlkit.conflict_rule), 0::bigint, 'nothing of all that is there');

select * from finish();
rollback;
