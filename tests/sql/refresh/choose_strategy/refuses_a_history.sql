-- needs: btree_gist
begin;
select plan(1);

select sqlkit_test.as_admin('create extension btree_gist schema public');
create table price (
    id integer not null,
    valid int4range not null,
    constraint one_version exclude using gist (id with =, valid with &&)
);
select sqlkit.create_stage('price', '{id}') as stage \gset
select throws_ok(format('select sqlkit.choose_strategy(%L)', :'stage'), 'SK212', null, 'no ranges');

select * from finish();
rollback;
