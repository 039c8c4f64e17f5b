-- What equals what, the dimension says: its column may have a collation that the column of the target does not have.
begin;
select plan(4);

create table public.word (id integer generated always as identity primary key, word text collate "C" unique);
create table public.line (number integer primary key, word text collate "POSIX", id integer references public.word);
insert into public.word (word) values ('there');
select sqlkit.create_stage('public.line', p_name => 'line_today');
insert into sqlkit_stage.line_today values (1, 'there', null), (2, 'new', null), (3, null, null);
select is(
    (sqlkit.resolve_keys('sqlkit_stage.line_today', 'id', 'public.word', 'id', array['word']))::text,
    '(3,2,1,1)',
    'found, and made'
);
select results_eq(
    'select l.number, w.word collate "default" from sqlkit_stage.line_today as l '
    'left join public.word as w on w.id = l.id order by 1',
    $$values (1, 'there'), (2, 'new'), (3, null)$$,
    'each its own'
);
select throws_ok(
    $$select sqlkit.resolve_keys(
        'sqlkit_stage.line_today', 'id', 'public.word', 'id', array['word'], array['word', 'number']
    )$$,
    'SK204', null, 'more columns than the key has'
);
select throws_ok(
    $$select sqlkit.resolve_keys(
        'sqlkit_stage.line_today', 'id', 'public.word', 'id', array['word'], array[]::name[]
    )$$,
    'SK204', null, 'fewer'
);

select * from finish();
rollback;
