-- Every name may be anything: of schema, table, column, key, index.
begin;
select plan(46);

create function pg_temp.load_odd(p_name name)
returns setof text
language plpgsql
as $load_odd$
declare
    v_other name := left('o' || p_name, 62);
    v_target regclass;
    v_stage regclass;
begin
    perform sqlkit_test.create_schema(p_name);
    execute format(
        'create table %1$I.%1$I (%1$I integer constraint %3$I primary key, %2$I text)',
        p_name,
        v_other,
        left('k' || p_name, 62)
    );
    v_target := format('%1$I.%1$I', p_name)::regclass;
    return next is(
        sqlkit_test.shown(sqlkit_test.merge(v_target, $$values (1, 'a'), (2, 'b'), (1, 'c')$$)),
        '3 read, 2 inserted, 1 duplicate',
        p_name || ': into an empty table'
    );
    return next is(
        sqlkit_test.shown(
            sqlkit_test.merge(
                v_target, $$values (1, 'd'), (2, 'b'), (3, 'n')$$, p_columns => array[p_name, v_other], p_key => array[p_name]
            )
        ),
        '3 read, 1 inserted, 1 updated, 1 unchanged',
        p_name || ': with columns and key named'
    );
    return next is(
        sqlkit_test.shown(sqlkit_test.merge(v_target, $$values (1, 'a'), (3, 'z')$$, 'newer', p_order_by => v_other)),
        '2 read, 1 updated, 1 ignored',
        p_name || ': to order by'
    );
    v_stage := sqlkit.create_stage(v_target, p_name => p_name);
    execute format('insert into sqlkit_stage.%I values (4, null), (4, %L)', p_name, 'x');
    return next is(
        sqlkit_test.shown(sqlkit.merge_stage(v_stage, 'fill')),
        '2 read, 1 inserted, 1 duplicate',
        p_name || ': as the name of a stage'
    );
    perform sqlkit.drop_stage(v_stage);
    execute format(
        'create table %1$I.%4$I (%1$I inet not null, %2$I integer not null, %3$I int4range not null, '
        'exclude using gist (%1$I inet_ops with =, %3$I with &&))',
        p_name,
        v_other,
        left('r' || p_name, 62),
        left('h' || p_name, 62)
    );
    return next is(
        sqlkit_test.shown(sqlkit_test.merge(
            format('%I.%I', p_name, left('h' || p_name, 62))::regclass,
            $$values ('10.0.0.1'::inet, 1), ('10.0.0.1', 2), ('10.0.0.1', 0), ('10.0.0.2', 1)$$,
            'history', array[p_name, v_other], p_order_by => v_other
        )),
        '4 read, 3 inserted, 1 unchanged',
        p_name || ': as a history'
    );
end;
$load_odd$;

select pg_temp.load_odd(n.name)
from sqlkit_test.odd_identifiers() as n (name);

select is(
    (select count(distinct target) from sqlkit.run),
    (select 2 * count(*) from sqlkit_test.odd_identifiers()),
    'the ledger names each of them'
);

select * from finish();
rollback;
