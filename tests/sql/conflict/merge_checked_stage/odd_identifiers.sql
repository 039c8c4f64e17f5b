-- Several rules of several kinds, with odd names.
begin;
select plan(1);

create table "Besuch ""x""" (
    "Nr." integer primary key, "Wer?" text, "von bis" tstzrange, "Ort" text
);
select sqlkit.define_overlap('a', '"Besuch ""x"""', array['Wer?'], p_range => 'von bis', p_exempt => array['Ort']);
select sqlkit.define_duplicate('b', '"Besuch ""x"""', array['von bis'], array['Wer?']);
insert into "Besuch ""x""" values (1, 'Ann', '[2026-01-01 09:00Z,2026-01-01 10:00Z]', 'x');
select sqlkit.create_stage('"Besuch ""x"""', p_name => 'visit_odd');
insert into sqlkit_stage.visit_odd values
(2, 'Ann', '[2026-01-01 08:00Z,2026-01-01 12:00Z)', 'y'),
(3, 'ann', '[2026-01-01 09:00Z,2026-01-01 10:00Z]', 'y'),
(4, 'Ann', '[2026-01-01 09:00Z,2026-01-01 09:30Z)', 'x');
select sqlkit.merge_checked_stage('sqlkit_stage.visit_odd', 'trim');
select results_eq(
    'select "Nr.", "von bis" from "Besuch ""x""" order by 1',
    $$values (1, '[2026-01-01 09:00Z,2026-01-01 10:00Z]'::tstzrange),
    (2, '[2026-01-01 08:00Z,2026-01-01 09:00Z)'), (4, '[2026-01-01 09:00Z,2026-01-01 09:30Z)')$$,
    'the first free piece; an exempt row; a duplicate is refused'
);

select * from finish();
rollback;
