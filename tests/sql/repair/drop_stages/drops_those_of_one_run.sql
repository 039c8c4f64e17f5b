begin;
select plan(3);

create table price (id integer primary key);
select sqlkit.start_run('load', 'price', 'update', '{id}') as one \gset
select sqlkit.start_run('load', 'price', 'update', '{id}') as two \gset
select sqlkit.create_stage('price', p_run_id => :one);
select sqlkit.create_stage('price', p_run_id => :one);
select sqlkit.create_stage('price', p_run_id => :two);

select is(sqlkit.drop_stages(:one), 2::bigint, 'all of them');
select results_eq('select s.run_id from sqlkit.stage as s', format('values (%s::bigint)', :two), 'no other');
select is(sqlkit.drop_stages(:one), 0::bigint, 'no more');

select * from finish();
rollback;
