begin;
select plan(3);

select is(sqlkit.channel(), 'alembic', 'as it was deployed here');
select sqlkit_test.as_admin($$
    insert into sqlkit.deployment (version, channel, deployed_at)
    values ('0.0.1', 'script', now() - interval '9 years')
$$);
select is(sqlkit.channel(), 'alembic', 'what came before does not matter');
select sqlkit_test.as_admin($$
    insert into sqlkit.deployment (version, channel, deployed_at)
    values ('9.0.0', 'script', now() + interval '9 years')
$$);
select is(sqlkit.channel(), 'script', 'the latest deployment tells');

select * from finish();
rollback;
