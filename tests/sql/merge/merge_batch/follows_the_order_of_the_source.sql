-- Two streams have filled two stages by turns: p_pieces tells which rows came first.
begin;
select plan(8);

create table item (id integer primary key, name text);
select sqlkit.create_stage('item', p_name => 'left') as left_stage \gset
select sqlkit.create_stage('item', p_name => 'right') as right_stage \gset
select sqlkit.start_run('load', 'item', 'update') as run_id \gset

-- Pieces 0 and 3 are in the left stage, 1, 2 and 4 in the right one.
create procedure pg_temp.stage()
language plpgsql
as $stage$
begin
    perform sqlkit.empty_stages('{sqlkit_stage.left,sqlkit_stage.right}');
    insert into sqlkit_stage."left" values (1, 'piece 0'), (2, 'piece 0'), (1, 'piece 3'), (3, 'piece 3');
    insert into sqlkit_stage."right" values (1, 'piece 1'), (2, 'piece 2'), (3, 'piece 2'), (4, 'piece 2'), (4, 'piece 4');
end;
$stage$;
create function pg_temp.merge(p_policy text)
returns text
language sql
return sqlkit_test.shown(sqlkit.merge_batch(
    (select max(run_id) from sqlkit.run),
    null,
    null,
    '{sqlkit_stage.left,sqlkit_stage.right}',
    'item',
    p_policy,
    p_order_by => case p_policy when 'newer' then 'name' end,
    p_pieces => '[
        {"stage": 1, "piece": 4, "rows": 1},
        {"stage": 0, "piece": 3, "rows": 2},
        {"stage": 0, "piece": 0, "rows": 2},
        {"stage": 1, "piece": 1, "rows": 1},
        {"stage": 1, "piece": 5, "rows": 0},
        {"stage": 1, "piece": 2, "rows": 3}
    ]'
));

call pg_temp.stage();
select is(pg_temp.merge('update'), '9 read, 4 inserted, 5 duplicate', 'update');
select results_eq(
    'select id, name from item order by id',
    $$values (1, 'piece 3'), (2, 'piece 2'), (3, 'piece 3'), (4, 'piece 4')$$,
    'the last one in the source wins'
);
delete from item;
select is(pg_temp.merge('ignore'), '9 read, 4 inserted, 5 duplicate', 'ignore');
select results_eq(
    'select id, name from item order by id',
    $$values (1, 'piece 0'), (2, 'piece 0'), (3, 'piece 2'), (4, 'piece 2')$$,
    'the first one in the source stays'
);
delete from item;
insert into item values (2, null), (4, null);
select is(pg_temp.merge('fill'), '9 read, 2 inserted, 2 updated, 5 duplicate', 'fill');
select results_eq(
    'select id, name from item order by id',
    $$values (1, 'piece 0'), (2, 'piece 0'), (3, 'piece 2'), (4, 'piece 2')$$,
    'the first value in the source fills'
);
update item set name = 'piece 2';
select is(pg_temp.merge('newer'), '9 read, 3 updated, 1 unchanged, 5 duplicate', 'newer');
select results_eq(
    'select id, name from item order by id',
    $$values (1, 'piece 3'), (2, 'piece 2'), (3, 'piece 3'), (4, 'piece 4')$$,
    'the greatest wins'
);

select * from finish();
rollback;
