begin;
select plan(9);

create table item (id integer primary key, name text, changes integer not null default 0);
create table history (id integer, operation text, name text);

create function pg_temp.keep_out()
returns trigger
language plpgsql
as $keep_out$
begin
    if new.name = 'no' then
        return null;
    end if;
    if tg_op = 'UPDATE' then
        new.changes := old.changes + 1;
    end if;
    return new;
end;
$keep_out$;
create function pg_temp.note()
returns trigger
language plpgsql
as $note$
begin
    insert into history values (new.id, tg_op, new.name);
    return new;
end;
$note$;

create trigger keep_out before insert or update on item
for each row execute function pg_temp.keep_out();
create trigger note after insert or update on item
for each row execute function pg_temp.note();

select is(
    sqlkit_test.shown(sqlkit_test.merge('item', $$values (1, 'a'), (2, 'no'), (3, 'c')$$, p_columns => '{id,name}')),
    '3 read, 2 inserted, 1 ignored',
    'a row that a trigger holds back is ignored: into an empty table'
);
select is(
    sqlkit_test.shown(
        sqlkit_test.merge('item', $$values (1, 'b'), (3, 'no'), (4, 'no'), (5, 'e')$$, p_columns => '{id,name}')
    ),
    '4 read, 1 inserted, 1 updated, 2 ignored',
    'inserts and updates alike'
);
select results_eq(
    'select id, name, changes from item order by id',
    $$values (1, 'b', 1), (3, 'c', 0), (5, 'e', 0)$$,
    'what a trigger changes is kept'
);
select results_eq(
    'select id, operation, name from history order by id, operation',
    $$values (1, 'INSERT', 'a'), (1, 'UPDATE', 'b'), (3, 'INSERT', 'c'), (5, 'INSERT', 'e')$$,
    'triggers see every row that is written, and no other'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('item', $$values (6, 'no'), (7, 'g')$$, 'append', '{id,name}')),
    '2 read, 1 inserted, 1 ignored',
    'append'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('item', $$values (1, 'b'), (7, 'g')$$, p_columns => '{id,name}')),
    '2 read, 2 unchanged',
    'unchanged rows fire nothing'
);
select is((select count(*) from history), 5::bigint, 'nor do they leave a trace');

-- A rule in place of an insert.
create table ruled (id integer primary key, name text);
do $make_rule$
begin
    create rule nothing as on insert to ruled where new.name = 'no' do instead nothing;
end
$make_rule$;
select is(
    sqlkit_test.shown(sqlkit_test.merge('ruled', $$values (1, 'a'), (2, 'no')$$)),
    '2 read, 1 inserted, 1 ignored',
    'what a rule holds back is ignored'
);
select is(
    sqlkit_test.shown(sqlkit_test.merge('ruled', $$values (1, 'b'), (2, 'no'), (3, 'c')$$)),
    '3 read, 1 inserted, 1 updated, 1 ignored',
    'the same where rows are there'
);

select * from finish();
rollback;
