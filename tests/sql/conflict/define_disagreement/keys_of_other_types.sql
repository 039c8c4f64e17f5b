-- The keys of the two tables may be of other types: what one of them has may be too large for the other.
begin;
select plan(4);

create table public.here (id integer primary key, said text, is_bad boolean);
create table public.there (id bigint primary key, said text);
insert into public.here values (1, 'a'), (2, 'b');
insert into public.there values (1, 'a'), (2, 'c'), (5000000000, 'd');
select sqlkit.define_disagreement('same', 'public.here', 'public.there', array['said']);
select is((sqlkit.detect_conflicts('same'))::text, '(2,0,0,2,t)', 'one differs, one is missing');
select is(
    (
        select sum((sqlkit.detect_conflicts('same', true, p.part, 2)).pairs_opened)
        from generate_series(1, 2) as p (part)
    ),
    0.0,
    'in parts, too'
);
select is(
    sqlkit_test.shown(sqlkit.flag_conflicts('same', 'is_bad')), '2 read, 2 updated', 'rows that are here are flagged'
);
select results_eq(
    'select id, is_bad from public.here order by 1', 'values (1, false), (2, true)', 'the one that differs'
);

select * from finish();
rollback;
