begin;
select plan(1);

create table "Ta ble%I" ("I d" integer primary key, "na""me %s" text);
insert into "Ta ble%I" values (1, 'a');
select sqlkit.create_stage('"Ta ble%I"', array['I d', 'na"me %s'], 'St age');
insert into sqlkit_stage."St age" values (1, 'b'), (2, 'c');
do $do$
declare
    v_statement text;
begin
    for v_statement in
        select d.statement
        from sqlkit.describe_merge('"Ta ble%I"', array['I d', 'na"me %s'], p_stage => 'St age') as d (statement)
    loop
        execute v_statement;
    end loop;
end;
$do$;
select results_eq(
    'select "I d", "na""me %s" from "Ta ble%I" order by 1',
    $$values (1, 'b'), (2, 'c')$$,
    'any name is written as it is'
);

select * from finish();
rollback;
