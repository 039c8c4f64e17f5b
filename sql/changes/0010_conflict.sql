-- Conflicts: the rules that find them, the pairs that were found, and what became of each.

create table sqlkit.conflict_rule (
    conflict_rule_id bigint generated always as identity,
    name text not null,
    kind text not null,
    target text not null,
    other text,
    key_columns name[] not null,
    definition jsonb not null,
    changed_by name,
    mark jsonb,
    detected_at timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    created_by name not null default current_user,
    constraint conflict_rule_pkey primary key (conflict_rule_id),
    constraint conflict_rule_name_key unique (name),
    constraint conflict_rule_kind_check check (kind in ('overlap', 'distance', 'duplicate', 'disagree')),
    constraint conflict_rule_other_check check ((kind = 'disagree') = (other is not null))
);

comment on table sqlkit.conflict_rule is
'Rules by which rows contradict each other. Made by sqlkit.define_overlap() and its sisters.';
comment on column sqlkit.conflict_rule.target is 'schema.table, quoted as SQL wants it; a table or a view';
comment on column sqlkit.conflict_rule.other is 'kind disagree: the table that should say the same';
comment on column sqlkit.conflict_rule.key_columns is 'the columns by which a row of the target is known';
comment on column sqlkit.conflict_rule.definition is 'what the rule compares: the arguments of the function that made it';
comment on column sqlkit.conflict_rule.changed_by is
'boolean: a flag that tells which rows are to be looked at; of another type: a value that grows when a row is
changed; null: the server''s own transaction numbers tell';
comment on column sqlkit.conflict_rule.mark is
'how far detection has come: what was written before is not looked at again; null: everything is to be looked at';

create table sqlkit.conflict (
    conflict_id bigint generated always as identity,
    conflict_rule_id bigint not null,
    resource jsonb not null,
    first_key jsonb not null,
    second_key jsonb not null,
    measure double precision,
    facts jsonb not null,
    state text not null default 'open',
    found_at timestamptz not null default clock_timestamp(),
    found_by name not null default current_user,
    changed_at timestamptz not null default clock_timestamp(),
    changed_by name,
    gone_at timestamptz,
    note text,
    part integer,
    constraint conflict_pkey primary key (conflict_id),
    constraint conflict_state_check check (state in ('open', 'resolved', 'ignored')),
    constraint conflict_gone_check check (gone_at is null or state = 'resolved')
);

create index conflict_conflict_rule_id_state_idx on sqlkit.conflict (conflict_rule_id, state);

-- Of what one session found there is nothing to fear, and the index would take a tenth of its time. By hashes, since
-- keys may be longer than an entry of an index.
create unique index conflict_pair_key on sqlkit.conflict (
    conflict_rule_id, jsonb_hash_extended(first_key, 0), jsonb_hash_extended(second_key, 0)
)
where part is not null;

comment on table sqlkit.conflict is
'Pairs of rows that contradict each other, found by sqlkit.detect_conflicts() and kept from then on.';
comment on column sqlkit.conflict.conflict_rule_id is
'a rule, whose row a detection locks once for all that it finds (a foreign key would look at it for each, which takes
as long as keeping them); it takes them along when it is deleted';
comment on column sqlkit.conflict.resource is 'what both rows claim: column names and values';
comment on column sqlkit.conflict.first_key is 'the key of the one row: column names and values; the lesser of the two';
comment on column sqlkit.conflict.measure is
'how much: minutes of overlap, minutes that are missing between two rows, the number of columns that disagree';
comment on column sqlkit.conflict.facts is 'what the rows said; where that changes, a settled conflict opens again';
comment on column sqlkit.conflict.found_by is 'who ran the detection that found it first';
comment on column sqlkit.conflict.changed_by is
'who settled it, or ran the detection that found it changed; null: it is as it was found';
comment on column sqlkit.conflict.gone_at is 'when detection found that the rows contradict each other no more';
comment on column sqlkit.conflict.note is 'what whoever settled it had to say';
comment on column sqlkit.conflict.part is
'which part of a detection in parts found it first; null: one session looked at all. Two parts may find a pair at once,
of which both rows have moved from the one''s resources to the other''s: a unique index lets it be recorded once';

create table sqlkit.conflict_event (
    conflict_event_id bigint generated always as identity,
    conflict_id bigint not null,
    action text not null,
    state_before text not null,
    measure_before double precision,
    facts_before jsonb not null,
    happened_at timestamptz not null default clock_timestamp(),
    database_user name not null default current_user,
    note text,
    constraint conflict_event_pkey primary key (conflict_event_id),
    constraint conflict_event_conflict_id_fkey foreign key (conflict_id)
    references sqlkit.conflict (conflict_id) on delete cascade,
    constraint conflict_event_action_check check (
        action in ('changed', 'gone', 'back', 'open', 'resolved', 'ignored')
    )
);

create index conflict_event_conflict_id_idx on sqlkit.conflict_event (conflict_id);

comment on table sqlkit.conflict_event is 'What happened to a conflict after it was found, and what it was before.';
comment on column sqlkit.conflict_event.action is
'changed: detection found other facts; gone, back: it found the pair no more, or again; open, resolved, ignored:
somebody said so';

create type sqlkit.conflict_counts as (
    pairs_opened bigint,
    pairs_changed bigint,
    pairs_closed bigint,
    pairs_open bigint,
    is_full boolean
);

comment on type sqlkit.conflict_counts is
'What a detection did: pairs found for the first time, pairs whose facts changed or that came back, pairs that are
gone, pairs open now; and whether it looked at everything.';
