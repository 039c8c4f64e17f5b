-- A role needs what it needs to read the table; and a key that is not unique is told.
begin;
select plan(5);

create table visit (id integer, carer integer, starts integer, ends integer);
insert into visit values (1, 1, 0, 4), (2, 1, 2, 6);
select sqlkit_test.create_plain_role() as role \gset
select sqlkit_test.grant_sqlkit(:'role');
select sqlkit.define_overlap('plain', 'visit', array['carer'], 'starts', 'ends', p_key => array['id']);
select set_config('role', :'role', true);
select throws_ok($$select sqlkit.detect_conflicts('plain')$$, '42501', null, 'the table cannot be read');
reset role;
select sqlkit_test.grant_on('visit', :'role', 'select');
select set_config('role', :'role', true);
select is((sqlkit.detect_conflicts('plain')).pairs_opened, 1::bigint, 'to read it is enough');
reset role;

insert into visit values (2, 1, 1, 5);
select throws_ok($$select sqlkit.detect_conflicts('plain')$$, 'SK803', null, 'two rows with one key');
update visit set id = 3
where starts = 1;
update visit set id = 3
where starts = 0;
select throws_ok($$select sqlkit.detect_conflicts('plain')$$, 'SK803', null, 'two rows with one key that overlap');
select sqlkit.define_overlap('parts', 'visit', array['carer'], 'starts', 'ends', p_key => array['id']);
select throws_ok(
    $$select sqlkit.detect_conflicts('parts', true, p.part, 2) from generate_series(1, 2) as p (part)$$,
    'SK803', null, 'in parts, too, with nothing found before'
);

select * from finish();
rollback;
