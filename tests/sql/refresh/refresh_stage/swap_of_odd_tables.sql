-- Every name may be anything; a bare table, and one of a single column, are tables too.
begin;
select plan(13);

select sqlkit_test.create_schema(n.name)
from sqlkit_test.odd_identifiers() as n (name);
create function pg_temp.refresh_odd(p_name name)
returns text
language plpgsql
as $refresh_odd$
declare
    v_before jsonb;
    v_after jsonb;
begin
    execute format(
        'create table %1$I.%1$I (%1$I serial constraint %3$I primary key, %2$I integer check (%2$I > 0), '
        'i integer generated always as identity)',
        p_name, left('c' || p_name, 60), left('k' || p_name, 60)
    );
    execute format('create index %3$I on %1$I.%1$I ((%2$I + 1)) where %1$I > 0', p_name, left('c' || p_name, 60), left('i' || p_name, 60));
    execute format('create view %1$I.%2$I as select * from %1$I.%1$I', p_name, left('v' || p_name, 60));
    execute format('create statistics %1$I.%2$I on %1$I, %3$I from %1$I.%1$I', p_name, left('s' || p_name, 60), left('c' || p_name, 60));
    execute format('comment on column %1$I.%1$I.%1$I is %1$L', p_name);
    v_before := sqlkit._signature(format('%1$I.%1$I', p_name)::regclass);
    perform sqlkit_test.refresh(format('%1$I.%1$I', p_name)::regclass, 'values (1, 1, 1), (2, 2, 2)', 'swap');
    v_after := sqlkit._signature(format('%1$I.%1$I', p_name)::regclass);
    return is(v_after, v_before, p_name);
end;
$refresh_odd$;
select pg_temp.refresh_odd(n.name)
from sqlkit_test.odd_identifiers() as n (name);

create table bare (name text);
insert into bare values ('a');
select is(
    sqlkit_test.shown(sqlkit_test.refresh('bare', $$values ('b'), ('b')$$, 'swap')),
    'swap: 2 read, 2 inserted, 1 deleted',
    'a table without key or index'
);
create unlogged table fleeting (id integer primary key, other integer);
alter table fleeting drop column other;
select is(
    sqlkit_test.shown(sqlkit_test.refresh('fleeting', 'values (1)', 'swap')),
    'swap: 1 read, 1 inserted',
    'an unlogged table, of which a column was dropped'
);


-- Something that a copy cannot be given: it is noticed, and nothing happens.
create unlogged table half (id integer generated always as identity primary key, name text);
do $$ begin alter sequence half_id_seq set logged; end $$;
insert into half (name) values ('old');
select throws_ok(
    $$select sqlkit_test.refresh('half', $q$values (1, 'new')$q$, 'swap')$$,
    'SK211',
    'the new table does not equal the old one',
    'what is not equal is no substitute'
);
select results_eq('select name from half', $$values ('old')$$, 'the old table stays');

select * from finish();
rollback;
