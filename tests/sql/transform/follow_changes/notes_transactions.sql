-- Any table can keep in which transaction its rows were changed.
begin;
select plan(7);

create table item (id integer primary key, name text);
insert into item values (1, 'a'), (2, 'b');
select sqlkit.follow_changes('item');
select ok(bool_and(changed_in = pg_current_xact_id()), 'rows that are there count as changed') from item;
select has_index('public', 'item', 'item_changed_in_idx', array['changed_in'], 'an index finds them');
update item set changed_in = '5';
select ok(
    bool_and(changed_in = pg_current_xact_id()), 'nobody sets it by hand'
) from item;
alter table item disable trigger sqlkit_follow_changes;
update item set changed_in = '5';
alter table item enable trigger sqlkit_follow_changes;
update item set name = 'a';
select results_eq(
    $$select id, changed_in = pg_current_xact_id() from item order by id$$,
    $$values (1, false), (2, true)$$,
    'only what differs counts as changed'
);
select lives_ok($$select sqlkit.follow_changes('item')$$, 'once more does no harm');
select is(count(*), 2::bigint, 'nothing is lost') from item;
create view an_item as
select * from item;
select throws_ok($$select sqlkit.follow_changes('an_item')$$, 'SK201', null, 'no table');

select * from finish();
rollback;
