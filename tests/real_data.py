"""Real data that stands beside the repository, not in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2] / "shared" / "data"


def real_data(*parts: str) -> Path:
    """The path of a file or folder in ``../shared/data``.

    Skips the test where it is absent; where CI is true, fails instead.
    """
    path = _ROOT.joinpath(*parts)
    if not path.exists():
        reason = f"the real data is not there: ../shared/data/{'/'.join(parts)}"
        if os.environ.get("CI", "").lower() not in ("", "0", "false"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return path
