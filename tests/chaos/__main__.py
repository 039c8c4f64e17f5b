"""``python -m tests.chaos``: disturb loads, and see whether anything is lost, doubled or left.

python -m tests.chaos                       at least 200 faults of all kinds
python -m tests.chaos --seed 42             the same once more, as far as chance is ours
python -m tests.chaos --faults 20 --only "cut after COMMIT"
"""

from __future__ import annotations

import argparse
import signal
import sys
import time

from tests.chaos.campaign import KINDS, Campaign
from tests.servers import Missing

ENOUGH = 200
"""Faults after which each kind must have struck."""


def main() -> int:
    """Run a campaign; 0 if nothing was lost, doubled or left behind.

    Nor is one good that proves less than it says: of 200 faults and more, those of each kind.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=ENOUGH)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--postgres", type=int, default=18, help="the major version")
    parser.add_argument("--only", choices=KINDS, action="append", metavar="KIND", help=str(KINDS))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    # Ended from outside, it still stops its servers and unmounts what it mounted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with Campaign.open(arguments.seed, arguments.postgres, only=arguments.only) as campaign:
            campaign.run(arguments.faults)
            print(campaign.summary())
    except Missing as error:
        print(f"not good: {error}")
        return 1
    if campaign.missed and arguments.faults >= ENOUGH:
        print(f"not good: these did not strike, and nothing is proved of them: {campaign.missed}")
        return 1
    return 0 if campaign.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
