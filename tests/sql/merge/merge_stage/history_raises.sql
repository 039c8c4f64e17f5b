begin;
select plan(13);

create table item (address inet not null, name text, seen timestamptz not null, valid tstzrange not null);
create function pg_temp.merge(p_columns name[], p_order_by name default null, p_key name[] default null)
returns void language plpgsql as $$
begin
    perform sqlkit.merge_stage(
        sqlkit.create_stage('item', p_columns), 'history', p_key, p_order_by
    );
end
$$;

select throws_ok(
    $$select pg_temp.merge('{address,name}')$$, 'SK212',
    'no constraint of the target keeps versions of a key apart', 'no constraint at all'
);
alter table item add constraint partial_excl exclude using gist (address inet_ops with =, valid with &&)
where (name is not null);
select throws_ok($$select pg_temp.merge('{address,name}')$$, 'SK212', null, 'one for some rows only');
alter table item add constraint wrong_excl exclude using gist (address inet_ops with &&, valid with &&);
select throws_ok($$select pg_temp.merge('{address,name}')$$, 'SK212', null, 'one of two overlaps');
alter table item add constraint item_excl exclude using gist (address inet_ops with =, valid with &&);
select lives_ok($$select pg_temp.merge('{address,name}')$$, 'the one that is needed');
select throws_ok(
    $$select pg_temp.merge('{address,name}', p_key => '{name}')$$, 'SK212',
    'no constraint of the target keeps versions of the key apart: name', 'another key'
);
select throws_ok(
    $$select pg_temp.merge('{address,name,valid}')$$, 'SK212',
    'column valid is written by policy history, and is in the input', 'the range is in the input'
);
select throws_ok($$select pg_temp.merge('{name}')$$, 'SK204', null, 'no key in the input');
select throws_ok($$select pg_temp.merge('{address,name}', 'seen')$$, 'SK207', null, 'no moment in the input');
select throws_ok(
    $$select pg_temp.merge('{address,name}', 'name')$$, 'SK212',
    'column name, by which versions begin, may be null', 'a moment that may be null'
);
alter table item alter name set not null;
select throws_ok($$select pg_temp.merge('{address,name}', 'name')$$, 'SK212', null, 'a moment of another type');
alter table item alter address drop not null;
select throws_ok(
    $$select pg_temp.merge('{address,name}')$$, 'SK212',
    'columns that say which version a row is may be null: address', 'a key that may be null'
);
alter table item alter address set not null;
alter table item add span int4range not null;
alter table item add constraint span_excl exclude using gist (address inet_ops with =, span with &&);
select throws_ok(
    $$select pg_temp.merge('{address,name}')$$, 'SK212',
    'the target keeps versions of more than one key apart', 'two histories'
);
alter table item drop constraint item_excl;
select throws_ok(
    $$select pg_temp.merge('{address,name}')$$, 'SK207',
    'policy history needs a column that says when a version begins', 'a range of numbers begins nowhere now'
);

select * from finish();
rollback;
