begin;
select plan(3);

create table price (id integer primary key);
select throws_ok($$select * from sqlkit.warm_key('price')$$, 'SK701', null, 'no pg_prewarm');
select is(sqlkit._warming_offer('price', null), null, 'and nothing is offered');
select throws_ok($$select * from sqlkit.warm_key('nothing')$$, '42P01', null, 'no such table');

select * from finish();
rollback;
