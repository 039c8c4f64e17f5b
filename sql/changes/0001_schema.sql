-- The two schemas, and the record of what was deployed into them.
--
-- The header of the script has made sure that a schema which is there already is ours and empty:
-- Alembic makes it beforehand for its version table, and so may a DBA for a role that is not
-- allowed to create schemas.

do $create_schemas$
begin
    if to_regnamespace('sqlkit') is null then
        create schema sqlkit;
    end if;
    if to_regnamespace('sqlkit_stage') is null then
        create schema sqlkit_stage;
    end if;
end
$create_schemas$;

comment on schema sqlkit is
'Loads anything into PostgreSQL exactly once: ledger, stages, merge. select sqlkit.version();';
comment on schema sqlkit_stage is
'Stages: unlogged tables of sqlkit that hold one batch each. Their content is worthless after a merge.';

create table sqlkit.deployment (
    deployment_id uuid default gen_random_uuid(),
    version text not null,
    previous_version text,
    channel text not null,
    database_user name not null default current_user,
    deployed_at timestamptz not null default clock_timestamp(),
    constraint deployment_pkey primary key (deployment_id),
    constraint deployment_channel_check check (channel in ('extension', 'alembic', 'script'))
);

comment on table sqlkit.deployment is
'Every deployment of sqlkit into this database. A restored dump of the extension adds one, since it installs anew.';
comment on column sqlkit.deployment.deployment_id is
'a random key, so that the rows of a dump and the row of the installation that receives them never clash';
comment on column sqlkit.deployment.previous_version is 'null for an installation from nothing';
comment on column sqlkit.deployment.channel is
'extension, alembic or script: every later deployment has to come the same way';
