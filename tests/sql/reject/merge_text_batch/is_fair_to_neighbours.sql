-- A row is refused for what the target has in the end, not for a row that is refused itself.
begin;
select plan(8);

create table item (id integer primary key, code text unique, label text unique, note text);
insert into item values (100, 'old', 'taken', null);
create function pg_temp.refuse()
returns trigger
language plpgsql
as $refuse$
begin
    if new.note = 'cursed' then
        raise exception 'nobody takes what is cursed';
    end if;
    return new;
end;
$refuse$;
create trigger refuse before insert or update on item for each row execute function pg_temp.refuse();

create function pg_temp.merge_text(p_rows text[], p_policy text)
returns text
language plpgsql
as $merge_text$
declare
    v_stage regclass := sqlkit.create_text_stage('item', '{id,code,label,note}');
    v_run_id bigint := sqlkit.start_run('load', 'item', p_policy);
begin
    execute pg_catalog.format(
        'insert into %s select k.line, k.line, k.raw, null, null, split_part(k.raw, '','', 1), '
        'split_part(k.raw, '','', 2), split_part(k.raw, '','', 3), split_part(k.raw, '','', 4) '
        'from pg_catalog.unnest($1) with ordinality as k (raw, line)',
        v_stage
    )
    using p_rows;
    return sqlkit_test.shown(
        sqlkit.merge_text_batch(v_run_id, null, null, v_stage, 'item', p_policy, p_limit => null)
    );
end;
$merge_text$;

select is(
    pg_temp.merge_text(
        array[
            '1,a,l1,cursed', '2,a,l2,', '3,a,l3,', -- the first is refused, the second has the code, the third has not
            '4,b,l4,', '5,c,l4,', '6,c,l6,', -- the fifth is refused for its label, so that the sixth has its code
            '7,d,taken,', '8,d,l8,' -- what the target holds comes first
        ],
        'update'
    ),
    '8 read, 4 inserted, 4 rejected',
    'what has free values is loaded'
);
select results_eq(
    'select id, code from item order by id',
    $$values (2, 'a'), (4, 'b'), (6, 'c'), (8, 'd'), (100, 'old')$$,
    'as if they came one by one'
);
select results_eq(
    'select first_line, sqlstate from sqlkit.reject order by first_line',
    $$values (1::bigint, 'P0001'), (3, '23505'), (5, '23505'), (7, '23505')$$,
    'the others are kept'
);
delete from sqlkit.reject;
select is(
    pg_temp.merge_text(array['21,x,l21,cursed', '22,x,l22,', '22,y,l23,'], 'update'),
    '3 read, 1 inserted, 2 rejected',
    'of one key'
);
select results_eq(
    'select code from item where id = 22', $$values ('y')$$, 'the last of a key counts, though an earlier one came free'
);
select is(
    pg_temp.merge_text(
        array['40,p,l40,cursed', '41,p,l41,', '41,q,l42,', '50,r,l50,cursed', '51,r,l51,'], 'update'
    ),
    '5 read, 2 inserted, 3 rejected',
    'and it still does when another row has come free before'
);
select results_eq(
    'select code from item where id = 41', $$values ('q')$$, 'so that no older row replaces a newer one'
);
select is(
    pg_temp.merge_text(array['31,m,l31,cursed', '31,m,l32,', '31,n,l33,'], 'append'),
    '3 read, 1 inserted, 2 rejected',
    'and of a key, if rows are appended'
);

select * from finish();
rollback;
