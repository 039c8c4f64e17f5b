-- Before a constraint is added: the rows that stand in its way; and where there are none, it can be added.
-- needs: btree_gist
begin;
select plan(29);

create function pg_temp.broken(p_target regclass, p_definition text)
returns text
language sql
as $broken$
select string_agg(
    concat_ws(' ', c.problem, c.first_row ->> 'id', c.second_row ->> 'id'),
    ', '
    order by c.problem, c.first_row ->> 'id', c.second_row ->> 'id'
)
from sqlkit.check_constraint(p_target, p_definition) as c
$broken$;

create table room (name text primary key, wing text, unique (name, wing));
insert into room values ('a', 'x'), ('b', 'y');
create table visit (
    id integer,
    room text,
    wing text,
    span int4range,
    price numeric,
    gone integer,
    twice integer generated always as (id * 2) stored
);
alter table visit drop column gone;
insert into visit values
(1, 'a', 'x', '[0,4)', 1), (2, 'a', 'x', '[2,6)', -1), (3, 'a', 'x', '[6,9)', null), (4, 'b', 'x', '[0,)', 2),
(5, 'b', null, '[3,4)', 2), (5, 'c', 'y', 'empty', 2), (null, null, null, '(,)', 2);

select is(pg_temp.broken('visit', 'check (price > 0.0)'), 'check 2', 'check: what is not true, and is not null');
select is(pg_temp.broken('visit', 'check (true)'), null, 'check: one that looks at no column');
select is(
    (select count(*) from sqlkit.check_constraint('visit', 'check (false)')), 7::bigint, 'and one that nothing meets'
);
select is(pg_temp.broken('visit', 'unique (id)'), 'unique 5 5', 'unique');
select is(pg_temp.broken('visit', 'unique (room, wing)'), 'unique 1 2, unique 1 3', 'each further row with the first');
select is(pg_temp.broken('visit', 'unique (wing)'), 'unique 1 2, unique 1 3, unique 1 4', 'nulls are distinct');
select is(
    pg_temp.broken('visit', 'unique nulls not distinct (wing)'),
    'unique 1 2, unique 1 3, unique 1 4, unique 5',
    'or are not'
);
select is(pg_temp.broken('visit', 'primary key (id)'), 'null, unique 5 5', 'a primary key has no nulls');
select is(pg_temp.broken('visit', 'foreign key (room) references room'), 'reference 5', 'a foreign key');
select is(
    pg_temp.broken('visit', 'foreign key (room, wing) references room (name, wing)'),
    'reference 4, reference 5',
    'of two columns'
);
select is(
    pg_temp.broken('visit', 'foreign key (room, wing) references room (name, wing) match full'),
    'reference 4, reference 5, reference 5',
    'of which both are needed'
);
select sqlkit_test.as_admin('create extension btree_gist schema public');
select is(
    pg_temp.broken('visit', 'exclude using gist (room with =, span with &&)'),
    'exclusion 1 2, exclusion 4 5',
    'in one room'
);
select is(
    pg_temp.broken('visit', 'exclude using gist (lower(room) with =, span with &&) where (price > 0.0)'),
    'exclusion 4 5',
    'expressions, and some rows only'
);
select is(
    (select count(*) from sqlkit.check_constraint('visit', 'exclude using gist (room with =, span with &&)', 1)),
    1::bigint,
    'so many at most'
);
-- Without overlaps is a matter of PostgreSQL 18 and later.
select
    case
        when current_setting('server_version_num')::integer < 180000 then skip('no WITHOUT OVERLAPS', 1)
        else is(
            pg_temp.broken('visit', 'unique (room, span without overlaps)'),
            'empty 5, exclusion 1 2, exclusion 4 5',
            'without overlaps, and without what is empty'
        )
    end;
delete from visit
where span && '[2,4)' and room <> 'a';
update visit set span = '[4,6)'
where id = 2;
select is(pg_temp.broken('visit', 'exclude using gist (room with =, span with &&)'), null, 'nothing is in its way');
select lives_ok(
    'alter table visit add constraint apart exclude using gist (room with =, span with &&)', 'so that it can be added'
);
select
    case
        when current_setting('server_version_num')::integer < 180000 then skip('no WITHOUT OVERLAPS', 2)
        else collect_tap(
            is(
                pg_temp.broken('visit', 'unique (room, span without overlaps)'), 'empty 5', 'one that is empty is left'
            ),
            throws_ok(
                'alter table visit add constraint no_twice unique (room, span without overlaps)', '23514', null,
                'PostgreSQL refuses that one as well'
            )
        )
    end;
update visit set room = null
where isempty(span);
select
    case
        when current_setting('server_version_num')::integer < 180000 then skip('no WITHOUT OVERLAPS', 1)
        else is(
            pg_temp.broken('visit', 'unique (room, span without overlaps)'), 'empty 5', 'be the rest of its key null'
        )
    end;
delete from visit
where isempty(span);
select
    case
        when current_setting('server_version_num')::integer < 180000 then skip('no WITHOUT OVERLAPS', 2)
        else collect_tap(
            is(pg_temp.broken('visit', 'unique (room, span without overlaps)'), null, 'nothing is in its way either'),
            lives_ok(
                'alter table visit add constraint no_twice unique (room, span without overlaps)',
                'so that it can be added, too'
            )
        )
    end;
select throws_ok(
    $$select sqlkit.check_constraint('visit', 'unique (rooms)')$$, '42703', null, 'a definition that makes no sense'
);
select
    is((
        select count(*) from pg_catalog.pg_class
        where relnamespace = 'sqlkit_stage'::regnamespace
    ), 0::bigint, 'nothing is left');
select
    case
        when current_setting('server_version_num')::integer < 180000 then skip('no foreign keys with PERIOD', 1)
        else throws_ok(
            $$
            create table stay (room text, span int4range, unique (room, span without overlaps));
            select sqlkit.check_constraint(
                'visit', 'foreign key (room, period span) references stay (room, period span)'
            )
            $$,
            '0A000', null, 'a foreign key with PERIOD'
        )
    end;

-- Tables that inherit have keys of their own.
create table public.mother (id integer);
create table public.daughter () inherits (public.mother);
insert into public.mother values (1);
insert into public.daughter values (1), (-2);
select is(pg_temp.broken('public.mother', 'unique (id)'), null, 'no two rows of one table are alike');
select is(pg_temp.broken('public.mother', 'check (id > 0)'), 'check -2', 'a check holds for all of them');
select is(pg_temp.broken('public.mother', 'check (id > 0) no inherit'), null, 'unless it is not inherited');

create policy of_many on public.mother using (id > 0);
alter table public.mother enable row level security;
select sqlkit_test.create_plain_role() as role \gset
select sqlkit_test.grant_sqlkit(:'role');
select sqlkit_test.grant_on('public.mother', :'role', 'select');
select set_config('role', :'role', true);
select throws_ok(
    $$select sqlkit.check_constraint('public.mother', 'unique (id)')$$, '42501', null, 'who does not see all rows'
);
reset role;

select * from finish();
rollback;
