-- How many rows there are to go through; nothing where parts would bring nothing.
begin;
select plan(8);

create table visit (id integer primary key, carer integer, starts integer, ends integer);
insert into visit
select
    g.id,
    g.id % 20 as carer,
    1 as starts,
    1 as ends
from generate_series(1, 5000) as g (id);
analyze visit;
create table half (id integer, carer integer, starts integer, ends integer) partition by range (id);
create table half_1 partition of half for values from (0) to (2000);
create table half_2 partition of half for values from (2000) to (9000);
insert into half select * from visit;
analyze half;
create view shown as select * from visit;

select sqlkit.define_overlap('large', 'visit', array['carer'], 'starts', 'ends');
select sqlkit.define_overlap('halves', 'half', array['carer'], 'starts', 'ends', p_key => array['id']);
select sqlkit.define_overlap('view', 'shown', array['carer'], 'starts', 'ends', p_key => array['id']);
select sqlkit.define_disagreement('same', 'visit', 'half', p_key => array['id']);
select sqlkit.define_disagreement('view too', 'visit', 'shown', p_key => array['id']);

select is(sqlkit.estimate_detection('large'), 5000::bigint, 'the rows of a table');
select is(sqlkit.estimate_detection('halves'), 5000::bigint, 'those of all partitions');
select is(sqlkit.estimate_detection('same'), 10000::bigint, 'those of both tables');
select is(sqlkit.estimate_detection('view'), null, 'each part would compute the whole view');
select is(sqlkit.estimate_detection('view too'), null, 'or the other one');
select sqlkit.detect_conflicts('large');
select is(sqlkit.estimate_detection('large'), null, 'only what was touched is looked at');
select is(sqlkit.estimate_detection('large', true), 5000::bigint, 'but for a full one');
select throws_ok($$select sqlkit.estimate_detection('none')$$, 'SK802', null, 'no such rule');

select * from finish();
rollback;
