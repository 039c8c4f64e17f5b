"""Sources: one module for each kind of place that rows come from."""
