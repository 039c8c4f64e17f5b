"""How carefully a source is read, and which errors ask for more care."""

from __future__ import annotations

from enum import IntFlag

LIMIT_PASSED = "SK301"

ROW_CLASSES = ("21", "22", "23", "27", "44", "54", "P0")
ROW_CODES = (
    "42601",
    "0A000",
    "SK107",
    "SK112",
    "SK114",
    "SK115",
    "SK116",
    "SK117",
    "SK118",
)
"""SQLSTATE classes and codes of errors that may lie in single rows: bad data, broken constraints,
triggers that raise, values of little languages such as tsvector, lines that are no JSON object."""

# fmt: off
OWN_CLASSES = frozenset({
    "00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22",
    "23", "24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40",
    "42", "44", "53", "54", "55", "57", "58", "72", "F0", "HV", "P0", "SK", "XX",
})
# fmt: on
"""Classes of PostgreSQL and of sqlkit. Whatever is of another one, a trigger has raised; in SQL
`sqlkit._may_lie_in_row`."""

ONE_VALUE = ("22", "SK1", "23502", "42601", "0A000", "54")
CONSTRAINT = ("23514", "23503")
"""Beginnings of those that screening finds by looking at values, and at constraints too."""


class Care(IntFlag):
    """How carefully a source is read."""

    NONE = 0
    """Pieces go to COPY as they are."""
    VALUES = 1
    """Records that are no rows, and values that are none, are kept away from COPY."""
    CONSTRAINTS = 2
    """Rows that break a CHECK or foreign key are kept away from the target."""
    SINGLY = 4
    """The next batch goes through a stage of text, where all that is wrong with it is found."""

    def after(self, code: str) -> Care:
        """How to go on after an error of this SQLSTATE, where pieces can be screened."""
        if code in CONSTRAINT:
            wanted = Care.CONSTRAINTS
        elif code.startswith(ONE_VALUE):
            wanted = Care.VALUES
        else:
            return Care.SINGLY
        # A domain's CHECK is a matter of the value, whatever the code says.
        both = Care.VALUES | Care.CONSTRAINTS
        return Care.SINGLY if both in self else both if wanted in self else self | wanted


DENIED = "42501"
"""insufficient_privilege: a privilege is missing; or a row policy or a trigger refuses a row."""


def may_be_rows(code: str | None, *, may_deny_rows: bool = False) -> bool:
    """True if an error of this SQLSTATE may lie in single rows, so that others can be loaded.

    `may_deny_rows`: the target has row policies that are ours too, or triggers.
    """
    if code is None:
        return False
    return (
        code[:2] in ROW_CLASSES
        or code[:2] not in OWN_CLASSES
        or code in ROW_CODES
        or (may_deny_rows and code == DENIED)
    )
