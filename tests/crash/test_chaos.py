"""The short form of ``make chaos``: twenty faults, and all is as if there had been none."""

from __future__ import annotations

import time

import pytest

from tests.chaos.campaign import Campaign
from tests.real_data import real_data


@pytest.mark.chaos
@pytest.mark.slow
def test_twenty_faults_change_nothing() -> None:
    real_data("prices")
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    with Campaign.open(seed, 18, share=0.5, works=4, most_at_once=5) as campaign:
        campaign.run(20)
        print(campaign.summary())
    assert campaign.is_good, "the output tells which trial failed, and how"
    assert campaign.struck.total() >= 20
