"""The Alembic environment of sqlkit; works through the plain ``alembic`` command too.

    alembic upgrade head                                  into the database of SQLKIT_DSN or PG*
    alembic -x dsn=postgresql://... upgrade head
    alembic -x lock_timeout=2s -x patience=60 upgrade head
    alembic upgrade head --sql                            the script, for review

Everything it does is in `sqlkit.migrate`, so that ``sqlkit migrate`` does the same.
"""

from __future__ import annotations

from alembic import context

from sqlkit.migrate import run_environment

run_environment(context)
