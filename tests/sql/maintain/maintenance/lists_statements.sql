begin;
select plan(2);

create table price (id integer primary key);
select sqlkit.start_run('load', 'price');
select is_empty('select from sqlkit.maintenance', 'a load is none');
select sqlkit.start_maintenance('price', 'analyze', 'public.price', 'analyze price') as run \gset
select sqlkit.finish_maintenance(:run, '55P03', 'no lock');
select results_eq(
    'select run_id, target, action, relation, statement, state, seconds >= 0, error_code, error_message '
    'from sqlkit.maintenance',
    format(
        $$values (%s::bigint, 'public.price', 'analyze', 'public.price', 'analyze price', 'failed', true,
        '55P03', 'no lock')$$,
        :run
    ),
    'a statement with what became of it'
);

select * from finish();
rollback;
