"""The command line: one module a command group, a shell over the API."""
