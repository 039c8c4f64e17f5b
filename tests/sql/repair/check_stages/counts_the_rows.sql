begin;
select plan(4);

create table price (id integer primary key);
select sqlkit.create_stage('price') as one \gset
select sqlkit.create_stage('price') as two \gset
select format('insert into %s select generate_series(1, 3)', :'one') \gexec
select format('insert into %s select generate_series(1, 4)', :'two') \gexec

select lives_ok(format('select sqlkit.check_stages(array[%L, %L]::regclass[], 7)', :'one', :'two'), 'all there');
select throws_ok(
    format('select sqlkit.check_stages(array[%L, %L]::regclass[], 8)', :'one', :'two'),
    'SK404',
    'a stage does not hold the rows that were copied into it',
    'one is missing'
);
select throws_ok(
    format('select sqlkit.check_stages(array[%L]::regclass[], 2)', :'one'), 'SK404', null, 'one too many'
);
select lives_ok($$select sqlkit.check_stages('{}', 0)$$, 'no stage holds nothing');

select * from finish();
rollback;
