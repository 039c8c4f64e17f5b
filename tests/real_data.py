"""Real data that stands beside the repository, not in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.servers import Missing

_ROOT = Path(__file__).resolve().parents[2] / "shared" / "data"


def find_real_data(*parts: str) -> Path:
    """The path of a file or folder in ``../shared/data``. Raises Missing."""
    path = _ROOT.joinpath(*parts)
    if not path.exists():
        raise Missing(f"the real data is not there: ../shared/data/{'/'.join(parts)}")
    return path


def real_data(*parts: str) -> Path:
    """The path of a file or folder in ``../shared/data``.

    Skips the test where it is absent; where CI is true, fails instead.
    """
    try:
        return find_real_data(*parts)
    except Missing as error:
        if os.environ.get("CI", "").lower() not in ("", "0", "false"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
