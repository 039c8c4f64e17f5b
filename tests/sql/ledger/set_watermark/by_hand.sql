begin;
select plan(4);

create table item (id integer primary key);
select sqlkit.set_watermark('item', 'mysql://h/d#t', 'id', '5');
select is(sqlkit.find_watermark('item', 'mysql://h/d#t', 'id'), '5', 'where it was set');
select sqlkit.set_watermark('item', 'mysql://h/d#t', 'id', '3');
select is(sqlkit.find_watermark('item', 'mysql://h/d#t', 'id'), '3', 'it may go back');
select sqlkit.set_watermark('item', 'mysql://h/d#t', 'id', null);
select is(sqlkit.find_watermark('item', 'mysql://h/d#t', 'id'), null, 'null: all is to be fetched');
select is_empty('select * from sqlkit.watermark', 'nothing is left of it');

select * from finish();
rollback;
