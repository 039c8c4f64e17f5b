-- Rows are shown whole, whatever their columns are called.
begin;
select plan(5);

create table public.stay (t integer, o integer, a integer, r integer, n integer, place integer);
insert into public.stay values (1, 2, 1, 1, 1, 1), (1, 3, 1, null, 1, 1);
create table public.room (o integer primary key, t integer);
select results_eq(
    $$select first_row ->> 'o' from sqlkit.check_constraint('public.stay', 'check (t > 1)')$$,
    array['2', '3'],
    'check'
);
select results_eq(
    $$select first_row ->> 'o', second_row ->> 'o'
    from sqlkit.check_constraint('public.stay', 'unique (n, t, place)')$$,
    $$values ('2', '3')$$,
    'unique'
);
select results_eq(
    $$select first_row ->> 'o' from sqlkit.check_constraint('public.stay', 'primary key (r)')$$,
    array['3'],
    'null'
);
select results_eq(
    $$select first_row ->> 'o', second_row ->> 'o'
    from sqlkit.check_constraint('public.stay', 'exclude using btree (t with =)')$$,
    $$values ('2', '3')$$,
    'exclusion'
);
select results_eq(
    $$select first_row ->> 'o'
    from sqlkit.check_constraint('public.stay', 'foreign key (a) references public.room (o)')$$,
    array['2', '3'],
    'reference'
);

select * from finish();
rollback;
