-- Every load looks for dead runs of its target: by an index of the few that run, not among all that ever did.

create index run_running_idx on sqlkit.run (target) where state = 'running';
