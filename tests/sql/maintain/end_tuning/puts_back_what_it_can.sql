begin;
select plan(4);

create table price (id integer primary key);
insert into price values (1);
select sqlkit.start_run('load', 'price') as run \gset
select is(sqlkit.end_tuning(:run), 0::bigint, 'nothing was tuned');
select sqlkit.begin_tuning(:run, 'price');
create function pg_temp.end_while_reading(p_run_id bigint)
returns bigint
language plpgsql
as $function$
declare
    v_back bigint;
    r_price record;
begin
    for r_price in select p.id from price as p loop
        v_back := sqlkit.end_tuning(p_run_id);
    end loop;
    return v_back;
end;
$function$;
select is(pg_temp.end_while_reading(:run), 0::bigint, 'not while a statement of this session reads it');
select is((select count(*) from sqlkit.tuned_table), 1::bigint, 'but it is not forgotten');
select is(sqlkit.end_tuning(:run), 1::bigint, 'the next one does it');

select * from finish();
rollback;
