-- Each further row is a duplicate of the first one: as many pairs as there are rows too many.
begin;
select plan(3);

create table person (id integer primary key, name text, born date);
insert into person values
(1, 'Ada  Lovelace', '1815-12-10'),
(2, ' ada lovelace', '1815-12-10'),
(3, 'ADA LOVELACE ', '1815-12-10'),
(4, 'Ada Lovelace', '1915-12-10'),
(5, null, '1815-12-10'),
(6, null, '1815-12-10');
select sqlkit.define_duplicate('twins', 'person', array['born'], array['name']);
select is((sqlkit.detect_conflicts('twins')).pairs_opened, 2::bigint, 'nulls are alike to nothing');
select results_eq(
    $$select first_key ->> 'id', second_key ->> 'id', facts from sqlkit.conflict order by conflict_id$$,
    $$values
    ('1', '2', '[{"name": "Ada  Lovelace"}, {"name": " ada lovelace"}]'::jsonb),
    ('1', '3', '[{"name": "Ada  Lovelace"}, {"name": "ADA LOVELACE "}]')$$,
    'with what the rows say'
);

-- A column that is named in both lists is normalised.
select sqlkit.define_duplicate('both', 'person', array['born', 'name'], array['name']);
select sqlkit.detect_conflicts('both');
update person
set born = '1815-12-10'
where id = 4;
select is((sqlkit.detect_conflicts('both')).pairs_opened, 1::bigint, 'what was touched is looked at');

select * from finish();
rollback;
