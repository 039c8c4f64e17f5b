-- Unchanged means: writing would store the very same value. Equality is not always that.
begin;
select plan(21);

create type pair as (a numeric, b text);
create type colour as enum ('red', 'green');
create domain amount as numeric;

create function pg_temp.writes(p_type text, p_old text, p_new text)
returns text
language plpgsql
as $writes$
declare
    v_counts sqlkit.row_counts;
begin
    execute format('create table kinds (id integer primary key, value %s)', p_type);
    execute format('insert into kinds values (1, %L)', p_old);
    v_counts := sqlkit_test.merge('kinds', format('values (1, %L::%s)', p_new, p_type));
    drop table kinds;
    return sqlkit_test.shown(v_counts);
end;
$writes$;

select
    is(
        pg_temp.writes(k.type, k.old, k.new),
        case when k.is_written then '1 read, 1 updated' else '1 read, 1 unchanged' end,
        format('%s: %s, then %s', k.type, coalesce(k.old, 'null'), coalesce(k.new, 'null'))
    )
from (
    values
    ('numeric', '1.0', '1.00', true),
    ('numeric', '1.0', '1.0', false),
    ('numeric(8, 2)', '1', '1.00', false),
    ('amount', '1.0', '1.00', true),
    ('double precision', '0', '-0', true),
    ('double precision', 'NaN', 'NaN', false),
    ('json', '{"a":1}', '{"a": 1}', true),
    ('json', '{"a":1}', '{"a":1}', false),
    ('jsonb', '{"a":1}', '{ "a": 1 }', false),
    ('jsonb', '{"a":1.0}', '{"a":1.00}', true),
    ('point', '(1,2)', '(1,2)', false),
    ('point', '(1,2)', '(1,2.0000000001)', true),
    ('interval', '24 hours', '1 day', true),
    ('text', 'a', 'a', false),
    ('text', 'a', null, true),
    ('text', null, '', true),
    ('char(4)', 'a', 'a  ', false),
    ('numeric[]', '{1.0}', '{1.00}', true),
    ('pair', '(1.0,x)', '(1.00,x)', true),
    ('colour', 'red', 'green', true),
    ('timestamptz', '2024-01-01 00:00+00', '2024-01-01 02:00+02', false)
) as k (type, old, new, is_written);

select * from finish();
rollback;
