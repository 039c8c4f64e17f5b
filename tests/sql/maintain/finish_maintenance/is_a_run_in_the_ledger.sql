begin;
select plan(5);

create table price (id integer primary key);
select sqlkit.start_maintenance('price', 'vacuum', 'public.price', 'vacuum price', 'here:1') as run_id \gset
select results_eq(
    $$select target, action, relation, statement, state, bytes_before, bytes_after from sqlkit.maintenance$$,
    $$values ('public.price', 'vacuum', 'public.price', 'vacuum price', 'running', 0::bigint, null::bigint)$$,
    'it is there as long as it runs'
);
insert into price values (1);
select sqlkit.finish_maintenance(:run_id);
select results_eq(
    $$select state, bytes_before, bytes_after, seconds >= 0 from sqlkit.maintenance$$,
    $$values ('done', 0::bigint, 8192::bigint, true)$$,
    'and afterwards with the sizes'
);
select throws_ok(
    format($$select sqlkit.finish_maintenance(%s)$$, :run_id), 'SK401', null, 'it is closed once'
);
select sqlkit.start_maintenance('price', 'clean', 'public.price_gone', 'drop index price_gone') as run_id \gset
select sqlkit.finish_maintenance(:run_id, '55P03', 'no lock');
select results_eq(
    format(
        $$select state, error_code, bytes_before, bytes_after from sqlkit.maintenance where run_id = %s$$,
        :run_id
    ),
    $$values ('failed', '55P03', null::bigint, 0::bigint)$$,
    'what is not there any more has no size'
);
select is(
    (
        select count(*) from sqlkit.run_summary as s
        where s.kind = 'maintenance'
    ), 2::bigint, 'they are runs like others'
);

select * from finish();
rollback;
