-- Names of every kind, in the rule, in its columns, in the stage.
begin;
select plan(2);

create table "Besuch ""x""" ("Nr." integer primary key, "Wer?" text, "von bis" int4range, "Ort" text);
insert into "Besuch ""x""" values (1, 'Ann', '[10,20)', 'x');
select sqlkit.define_overlap(
    'r "1"', '"Besuch ""x"""', array['Wer?'], p_range => 'von bis', p_exempt => array['Ort']
);
select sqlkit.start_run('load', '"Besuch ""x"""', 'newer') as run \gset
select source_id as source from sqlkit.open_source('"Besuch ""x"""', 'a.csv', 'csv') \gset
select sqlkit.create_text_stage('"Besuch ""x"""', array['Nr.', 'Wer?', 'von bis']) as stage \gset
insert into :stage values -- noqa: PRS
(2, 2, 'a', null, null, '2', 'Ann', '[5,15)'), (3, 3, 'b', null, null, '3', 'Ann', '[12,15)');
select is(
    sqlkit_test.shown(sqlkit.merge_checked_batch(
        :run, :source, (0, 10, 2, 3, 10, null, true), :'stage', '"Besuch ""x"""', 'newer', 'trim', null, 'von bis', null
    )),
    '2 read, 1 inserted, 1 rejected', 'cut, or refused'
);
select is((select "von bis" from "Besuch ""x""" where "Nr." = 2), '[5,10)'::int4range, 'the first free piece');

select * from finish();
rollback;
