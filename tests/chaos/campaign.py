"""A campaign: trial after trial, until as many faults have struck as were asked for."""

from __future__ import annotations

import contextlib
import itertools
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.chaos.data import Work, make_all
from tests.chaos.sites import Pair, Site, pair_site, pooled_site, single_site
from tests.chaos.state import State
from tests.chaos.trials import PAIR, POOLED, SINGLE, TINY, Fault, Trial
from tests.servers import Missing, Session

FAULTS: dict[str, Fault] = SINGLE | TINY | PAIR | POOLED
KINDS = tuple(FAULTS)

MOST_AT_ONCE = 3
"""Faults that one trial is to bear."""


class Campaign:
    """Trials in places that are set up once."""

    def __init__(
        self,
        seed: int,
        works: Sequence[Work],
        single: Site,
        pooled: Site | None,
        pair: Pair | None,
        absent: Mapping[str, str],
        only: Sequence[str] | None,
        most_at_once: int,
    ) -> None:
        self._seed = seed
        self._chance = random.Random(seed)
        self._order = random.Random(seed)
        self._works = works
        self._single = single
        self._pooled = pooled
        self._pair = pair
        self._most_at_once = most_at_once
        self._expected: dict[str, tuple[State, float]] = {}
        self._numbers = itertools.count(1)
        self.struck: Counter[str] = Counter()
        self.lost = self.duplicated = self.left = self.wrong = self.trials = 0
        self._wanted = [kind for kind in KINDS if only is None or kind in only]
        self._absent = {kind: why for kind, why in absent.items() if kind in self._wanted}
        self._kinds = [kind for kind in self._wanted if kind not in absent]
        if not self._kinds:
            raise Missing("; ".join(self._absent.values()))

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        seed: int,
        major: int,
        *,
        only: Sequence[str] | None = None,
        share: float = 1.0,
        works: int | None = None,
        most_at_once: int = MOST_AT_ONCE,
    ) -> Iterator[Campaign]:
        """Set up servers and data: a share of what there is, some kinds of work or all.

        Real prices are always among them. Raises Missing where they are not there.
        """
        with contextlib.ExitStack() as stack:
            session = Session.open()
            stack.callback(session.close)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
            chosen = make_all(folder, share)
            if works is not None:
                chosen = chosen[:1] + random.Random(seed).sample(chosen[1:], works - 1)
            single = stack.enter_context(single_site(session, major))
            absent: dict[str, str] = {}
            if single.tiny is None:
                absent |= dict.fromkeys(TINY, f"no disk can be filled here: {single.why_not_tiny}")
            pooled = stack.enter_context(pooled_site(session, single))
            if pooled is None:
                why = "no PgBouncer here: tests/install-services.sh installs it"
                absent |= dict.fromkeys(POOLED, why)
            pair = stack.enter_context(pair_site(session, major))
            yield cls(seed, chosen, single, pooled, pair, absent, only, most_at_once)

    @property
    def is_good(self) -> bool:
        """Whether all was as it should be, whatever has struck."""
        return not (self.lost or self.duplicated or self.left or self.wrong)

    @property
    def missed(self) -> list[str]:
        """The kinds of faults that were asked for and have not struck."""
        return [kind for kind in self._wanted if not self.struck[kind]]

    def summary(self) -> str:
        """How often what struck, and what came of it."""
        lines = [f"{number:>5}  {kind}" for kind, number in self.struck.most_common()]
        absent = self._absent
        lines += [f"    0  {kind}: {absent.get(kind, 'did not strike')}" for kind in self.missed]
        lines.append(
            f"faults {self.struck.total()}, lost {self.lost}, duplicated {self.duplicated}, "
            f"left behind {self.left}"
            + (f", otherwise wrong {self.wrong}" if self.wrong else "")
            + f" in {self.trials} trials"
        )
        return "\n".join(lines)

    def run(self, faults: int, *, seconds: float | None = None) -> None:
        """Trials until so many faults have struck; no new one after so many seconds."""
        until = None if seconds is None else time.monotonic() + seconds
        queue: list[str] = []
        works: list[Work] = []
        while self.struck.total() < faults and (until is None or time.monotonic() < until):
            # Every kind and every work in turn, in an order that changes.
            if not queue:
                queue = list(self._kinds)
                self._order.shuffle(queue)
            if not works:
                works = list(self._works)
                self._order.shuffle(works)
            self._trial(queue.pop(), works.pop())

    def expected(self, work: Work) -> tuple[State, float]:
        """What an undisturbed load ends with, and how long it takes."""
        if work.name not in self._expected:
            trial = Trial(self._single, work, self._chance, "undisturbed")
            try:
                started = time.monotonic()
                trial.start_client()
                trial.settle()
                seconds = time.monotonic() - started
                if not trial.outcome.is_good:
                    raise RuntimeError(f"{work.name}: {trial.outcome.wrong}")
                state = trial.look()
                trial.compare(state)
                if not trial.outcome.is_good:
                    raise RuntimeError(f"{work.name}: {trial.outcome}")
                self._expected[work.name] = (state, seconds)
            finally:
                trial.drop()
        return self._expected[work.name]

    def _trial(self, kind: str, work: Work) -> None:
        number = next(self._numbers)
        chance = random.Random(f"{self._seed}, trial {number}")
        expected, usual = self.expected(work)
        site = self._site(kind)
        kinds = [kind]
        if site is self._single and kind not in TINY:
            others = [other for other in self._kinds if other in SINGLE]
            kinds += chance.choices(others, k=chance.randrange(self._most_at_once))
        is_async = isinstance(site, Pair) and chance.random() < 0.5
        if isinstance(site, Pair):
            site.require_standby(not is_async)
        started = time.monotonic()
        trial = Trial(site, work, chance, f"trial_{number}", tiny=kind in TINY)
        trial.usual = usual
        if "lock held" in kinds:
            trial.dsn_options["options"] = "-c lock_timeout=300ms"
        try:
            trial.start_client()
            for name in kinds:
                if FAULTS[name](trial):
                    trial.outcome.faults.append(name)
            trial.settle()
            if not trial.outcome.faults and len(trial.clients) == 1:
                # The machine is faster now than it was when the work was tried out.
                seconds = time.monotonic() - trial.clients[0].started_at
                self._expected[work.name] = (expected, min(usual, seconds))
            if is_async:
                # What the standby had not heard of is gone, and the ledger with it. A run that
                # ended just before may be among it: whoever calls again gets all of it.
                trial.start_client()
                trial.settle()
            if not trial.outcome.wrong:
                trial.compare(expected)
        finally:
            if isinstance(site, Pair):
                site.repair()
            trial.drop()
        self._note(number, trial, time.monotonic() - started)

    def _site(self, kind: str) -> Site:
        site = self._pair if kind in PAIR else self._pooled if kind in POOLED else self._single
        assert site is not None
        return site

    def _note(self, number: int, trial: Trial, seconds: float) -> None:
        outcome = trial.outcome
        self.trials += 1
        self.struck.update(outcome.faults)
        self.lost += outcome.lost
        self.duplicated += outcome.duplicated
        self.left += len(outcome.left)
        self.wrong += len(outcome.wrong)
        told = "ok" if outcome.is_good else "FAILED"
        faults = ", ".join(outcome.faults) or "nothing struck in time"
        print(f"{number:>4}  {told}  {seconds:5.1f} s  {trial.work.name}: {faults}", flush=True)
        if outcome.lost or outcome.duplicated:
            print(f"      lost {outcome.lost}, duplicated {outcome.duplicated}", flush=True)
        for text in (*outcome.wrong, *outcome.left):
            print(f"      {text}", flush=True)
