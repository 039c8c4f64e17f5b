begin;
select plan(9);

create function pg_temp.estimated(p_name name)
returns sqlkit.row_counts
language plpgsql
as $estimated$
begin
    perform sqlkit_test.create_schema(p_name);
    execute format('create table %1$I.%1$I (%1$I integer primary key, other text)', p_name);
    execute format('insert into %1$I.%1$I values (1, null)', p_name);
    return sqlkit.estimate_merge(
        format('%1$I.%1$I', p_name)::regclass, array['other', p_name], '[["x", "1"], ["x", "2"]]'
    );
end;
$estimated$;

select
    is(
        pg_temp.estimated(n.name),
        row(2, 1, 1, 0, 0, 0, 0)::sqlkit.row_counts,
        n.name || ': one to insert, one to update'
    )
from sqlkit_test.odd_identifiers() as n (name);

select * from finish();
rollback;
