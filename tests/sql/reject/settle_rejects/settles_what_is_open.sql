begin;
select plan(7);

create table item (id integer primary key);
select sqlkit.start_run('load', 'item') as run \gset
select sqlkit.start_run('load', 'item') as other \gset
insert into sqlkit.reject (run_id, first_line, last_line, raw, sqlstate, message)
select
    k.run_id,
    l.line as first_line,
    l.line as last_line,
    'raw ' || l.line as raw,
    '22P02' as sqlstate,
    'no number' as message
from (values (:run), (:other)) as k (run_id), generate_series(2, 5) as l (line);

select is(
    sqlkit.settle_rejects(
        :run,
        'dismissed',
        array(
            select reject_id from sqlkit.reject
            where first_line in (2, 3)
        )
    ),
    2::bigint,
    'those named, as far as they are of this run'
);
select is(sqlkit.settle_rejects(:run, 'replayed', p_settled_by_run_id => :other), 2::bigint, 'all that are open');
select is(sqlkit.settle_rejects(:run, 'dismissed'), 0::bigint, 'what is settled stays as it is');
select results_eq(
    'select run_id, first_line, state, settled_by_run_id, settled_at is not null from sqlkit.reject '
    'where first_line in (2, 5) order by 1, 2',
    format(
        $$values
        (%1$s::bigint, 2::bigint, 'dismissed', null::bigint, true),
        (%1$s, 5, 'replayed', %2$s, true),
        (%2$s, 2, 'open', null, false),
        (%2$s, 5, 'open', null, false)$$,
        :run, :other
    ),
    'with the time, and the run that did it'
);
select is(sqlkit.settle_rejects(:other, 'dismissed', '{}'), 0::bigint, 'none named, none settled');
select throws_ok(
    $$select sqlkit.settle_rejects(-1, 'dismissed')$$, 'SK401', 'there is no such run', 'an unknown run'
);
select throws_ok(
    format('select sqlkit.settle_rejects(%s, ''forgotten'')', :other), '23514', null, 'another state'
);

select * from finish();
rollback;
