begin;
select plan(4);

create table item (id integer primary key);
insert into item values (1);
select sqlkit.create_stage('item', p_name => 'a');
select sqlkit.create_stage('item', p_name => 'b');
insert into sqlkit_stage.a values (1);
insert into sqlkit_stage.b values (2);

select lives_ok($$select sqlkit.empty_stages('{sqlkit_stage.a,sqlkit_stage.b,item}')$$, 'several at once');
select is_empty('select * from sqlkit_stage.a union all select * from sqlkit_stage.b', 'both are empty');
select isnt_empty('select * from item', 'what is no stage is not');
select lives_ok($$select sqlkit.empty_stages('{}')$$, 'none at all');

select * from finish();
rollback;
