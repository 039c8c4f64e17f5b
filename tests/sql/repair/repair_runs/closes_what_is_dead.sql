-- Who is alive and who is not; what is dropped and what is nobody's business.
begin;
select plan(13);

create table price (id integer primary key);
create table other (id integer primary key);

create function pg_temp.start_run(p_backend_pid integer, p_is_direct boolean, p_age interval)
returns bigint
language plpgsql
as $start_run$
declare
    v_run_id bigint := sqlkit.start_run('load', 'price', 'update', '{id}');
begin
    update sqlkit.run as r
    set backend_pid = coalesce(p_backend_pid, r.backend_pid), is_direct = p_is_direct,
        heartbeat_at = clock_timestamp() - p_age
    where r.run_id = v_run_id;
    return v_run_id;
end;
$start_run$;

-- No server process has the id 1.
select pg_temp.start_run(null, true, '1 day') as here \gset
select pg_temp.start_run(1, true, '0') as gone \gset
select pg_temp.start_run(1, false, '4 minutes') as silent \gset
select pg_temp.start_run(null, false, '6 minutes') as too_silent \gset
select pg_temp.start_run(null, null, '1 day') as by_hand \gset
select pg_temp.start_run(1, null, '6 minutes') as by_hand_gone \gset
select pg_temp.start_run(1, null, '1 minute') as by_hand_before \gset
select sqlkit.create_stage('price', p_run_id => :gone) as stage_of_gone \gset
select sqlkit.create_stage('price', p_run_id => :here) as stage_of_here \gset
select sqlkit.create_stage('price') as stage_by_hand \gset

select is_empty(
    $$select * from sqlkit.repair_runs('other')$$, 'another target is another matter'
);
select results_eq(
    $$select r.run_id, r.target, r.action from sqlkit.repair_runs('price') as r$$,
    format(
        $$values (%s::bigint, 'public.price', 'closed'), (%s, 'public.price', 'closed'),
        (%s, 'public.price', 'closed'), (%s, 'public.price', 'dropped')$$,
        :gone, :too_silent, :by_hand_gone, :gone
    ),
    'dead are: whose process ended, who is silent behind a proxy, and whose session by hand has ended'
);
select results_eq(
    format($$select r.state, r.error_code from sqlkit.run as r where r.run_id = %s$$, :gone),
    $$values ('failed', 'SK403')$$,
    'a closed run says why'
);
select is(
    (
        select count(*)
        from sqlkit.run as r
        where r.run_id in (:here, :silent, :by_hand, :by_hand_before) and r.state = 'running'
    ),
    4::bigint,
    'the others go on'
);
select hasnt_table('sqlkit_stage', split_part(:'stage_of_gone', '.', 2)::name, 'the stage of the dead is gone');
select has_table('sqlkit_stage', split_part(:'stage_of_here', '.', 2)::name, 'that of the living is not');
select has_table('sqlkit_stage', split_part(:'stage_by_hand', '.', 2)::name, 'nor one that was made by hand');
select is_empty($$select * from sqlkit.repair_runs()$$, 'once is enough');
select results_eq(
    $$select r.run_id from sqlkit.repair_runs(p_grace => '3 minutes') as r$$,
    format('values (%s::bigint)', :silent),
    'how long a proxy may hide a program is for the caller to say'
);

-- A run that was closed is closed, and one that ended by itself may still have left a stage.
select sqlkit.finish_run(:here);
select results_eq(
    $$select r.stage, r.action from sqlkit.repair_runs('price') as r$$,
    format($$values (%L::name, 'dropped')$$, split_part(:'stage_of_here', '.', 2)),
    'stages of closed runs go'
);

-- A stage of which only the list knows.
select sqlkit.create_stage('price', p_run_id => :here) as lost_stage \gset
select format('drop table sqlkit_stage.%I', s.name)
from sqlkit.stage as s
order by s.stage_id desc
limit 1 \gexec
select results_eq(
    $$select r.action from sqlkit.repair_runs('price') as r$$, $$values ('forgotten')$$, 'there is no table any more'
);
select is((select count(*) from sqlkit.stage), 1::bigint, 'only the one by hand is on the list');

select throws_ok(
    $$select * from sqlkit.repair_runs('nothing')$$, '42P01', null, 'no such target'
);

select * from finish();
rollback;
