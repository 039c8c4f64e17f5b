begin;
select plan(5);

create table item (id integer primary key);
select sqlkit.create_stage('item', p_name => 'mine');
select sqlkit.drop_stage('sqlkit_stage.mine');

select hasnt_table('sqlkit_stage', 'mine', 'the table is gone');
select is_empty('select * from sqlkit.stage', 'and not listed any more');
select throws_ok(
    $$select sqlkit.drop_stage('item')$$, 'SK208', 'there is no such stage', 'a table that is none stays'
);
select has_table('item', 'it does');

create table sqlkit_stage.stray (id integer);
select throws_ok(
    $$select sqlkit.drop_stage('sqlkit_stage.stray')$$,
    'SK208',
    null,
    'a table in its schema that was not made as a stage'
);

select * from finish();
rollback;
