begin;
select plan(3);

create table item (id integer primary key, name text);
insert into item values (1, 'one');
select sqlkit.create_stage('item', p_name => 'new');
insert into sqlkit_stage.new values (2, 'two');

select throws_ok(
    $$select sqlkit.refresh_stage('sqlkit_stage.new', p_key => '{name}')$$,
    'SK203',
    null,
    'a key that nothing makes unique'
);
alter table item rename to renamed;
create view item as
select * from renamed;
select throws_ok(
    $$select sqlkit.refresh_stage('sqlkit_stage.new')$$, 'SK201', null, 'where the target was, a view is now'
);
select results_eq('select id from renamed', 'values (1)', 'nothing was done');

select * from finish();
rollback;
