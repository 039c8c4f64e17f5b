"""The benchmark: `python -m tests.bench` measures sqlkit against hand-written psql and SQL."""
