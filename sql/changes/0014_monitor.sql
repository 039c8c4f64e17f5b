-- Baselines: the run that later runs of the same target are compared with, in speed and in memory.

alter table sqlkit.run add column client_peak_bytes bigint;

comment on column sqlkit.run.client_peak_bytes is
'the most memory that the program behind the run ever took (resident); null where it has not said';

create table sqlkit.baseline (
    target text,
    kind text,
    strategy text,
    run_id bigint not null,
    recorded_at timestamptz not null default clock_timestamp(),
    constraint baseline_pkey primary key (target, kind, strategy),
    constraint baseline_run_id_fkey foreign key (run_id) references sqlkit.run (run_id) on delete cascade
);

create index baseline_run_id_idx on sqlkit.baseline (run_id);

comment on table sqlkit.baseline is
'Of each target, kind of run and strategy the run that others are compared with: see sqlkit.run_speed.';
comment on column sqlkit.baseline.strategy is 'as sqlkit.run_speed names it';
