"""A page about loads and tables: plain HTML with plots as inline SVG, and nothing else to fetch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jinja2 import Environment

if TYPE_CHECKING:
    from sqlkit.client import Client

WIDTH, HEIGHT = 860, 220
LEFT, BOTTOM, TOP = 70, 22, 8
COLORS = ("#2f6db3", "#e08b27", "#4a9d5b", "#b0483f", "#7a5aa6", "#8a8a8a")
WORK = ("decode", "copy", "merge", "other")


@dataclass(frozen=True)
class Report:
    """What the page shows, as the views of monitoring give it."""

    runs: list[dict[str, Any]]  # oldest first
    speed: list[dict[str, Any]]
    strategies: list[dict[str, Any]]
    maintenance: list[dict[str, Any]]
    storage: list[dict[str, Any]]
    bloat: list[dict[str, Any]]
    minutes: list[dict[str, Any]]
    rejects: list[dict[str, Any]]
    made_at: datetime


@dataclass(frozen=True)
class Bar:
    """A bar of one or several pieces that lie on each other."""

    label: str
    pieces: tuple[float, ...]
    title: str


def read_report(client: Client, runs: int) -> Report:
    """Ask a database for everything that the page shows."""
    return Report(
        runs=client.monitor("run_summary", runs)[::-1],
        speed=client.monitor("run_speed", runs)[::-1],
        strategies=client.monitor("strategy_speed"),
        maintenance=client.monitor("maintenance", runs)[::-1],
        storage=client.monitor("storage", 10),
        bloat=[row for row in client.monitor("bloat", 10) if row["bloat_bytes"]],
        minutes=client.monitor("rows_per_minute"),
        rejects=client.monitor("open_reject", 50),
        made_at=datetime.now(UTC),
    )


def render(report: Report) -> str:
    """The page, as HTML 5 whose SVG is well-formed XML."""
    loads = [run for run in report.runs if run["rows_read"] and run["seconds_total"]]
    compared = [run for run in report.speed if run["speed_ratio"] is not None]
    rewritten = [
        run
        for run in report.maintenance
        if run["state"] == "done" and run["action"] in ("reindex", "rewrite", "vacuum")
    ]
    return _PAGE.render(
        report=report,
        plots=[
            (
                "Throughput",
                "Rows a second of each run, by the time when it began.",
                bars(
                    [
                        Bar(
                            _when(run["started_at"]),
                            (run["rows_read"] / run["seconds_total"],),
                            f"run {run['run_id']}, {_when(run['started_at'])}, {run['target']}: "
                            f"{run['rows_read'] / run['seconds_total']:,.0f} rows/s",
                        )
                        for run in loads
                    ],
                    letters=len("12-31 23:59"),
                ),
                (),
            ),
            (
                "The last hour",
                "Rows that were committed in each minute.",
                bars(
                    [
                        Bar(_when(minute)[6:], (rows,), f"{_when(minute)}: {rows:,} rows")
                        for minute, rows in _minutes(report.minutes).items()
                    ]
                ),
                (),
            ),
            (
                "Where time went",
                "Seconds of each run. Kinds of work overlap: other is what none of them covers.",
                bars([_times(run) for run in loads]),
                WORK,
            ),
            (
                "Against the baseline",
                "Speed as a multiple of the baseline's; above the line is faster.",
                bars(
                    [
                        Bar(
                            str(run["run_id"]),
                            (run["speed_ratio"],),
                            f"run {run['run_id']}, {run['target']}: {run['speed_ratio']:.2f} times "
                            f"run {run['baseline_run_id']}"
                            + (
                                ""
                                if run["memory_ratio"] is None
                                else f", {run['memory_ratio']:.2f} times its memory"
                            ),
                        )
                        for run in compared
                    ],
                    line=1,
                ),
                (),
            ),
            (
                "Storage",
                "Megabytes of the largest tables.",
                bars(
                    [
                        Bar(
                            row["table_name"],
                            tuple(
                                row[part] / 1e6
                                for part in ("heap_bytes", "index_bytes", "toast_bytes")
                            ),
                            f"{row['table_name']}: {row['total_bytes'] / 1e6:,.1f} MB",
                        )
                        for row in report.storage
                    ]
                ),
                ("heap", "indexes", "TOAST"),
            ),
            (
                "Bloat",
                "Megabytes that writing anew would free, estimated.",
                bars(
                    [
                        Bar(
                            row["relation"],
                            (row["bloat_bytes"] / 1e6,),
                            f"{row['relation']}: {row['bloat_bytes'] / 1e6:,.1f} MB, "
                            f"{row['bloat_ratio']:.0%}, confidence {row['confidence']}",
                        )
                        for row in report.bloat
                    ]
                ),
                (),
            ),
            (
                "Maintenance",
                "Megabytes of what each statement worked at, before and after.",
                _before_and_after(rewritten, "bytes"),
                ("before", "after"),
            ),
            (
                "Bloat before and after",
                "Megabytes of bloat, estimated, before and after each statement.",
                _before_and_after(
                    [run for run in rewritten if run["bloat_before"] is not None], "bloat"
                ),
                ("before", "after"),
            ),
        ],
    )


def _before_and_after(runs: list[dict[str, Any]], what: str) -> str | None:
    """Two bars for each statement of maintenance: its `bytes` or its `bloat`."""

    def megabytes(run: dict[str, Any], when: str) -> float:
        return float((run[f"{what}_{when}"] or 0) / 1e6)

    return bars(
        [
            bar
            for run in runs
            for bar in (
                Bar(
                    f"{run['run_id']}",
                    (megabytes(run, "before"),),
                    f"{megabytes(run, 'before'):,.1f} MB before {run['statement']}",
                ),
                Bar(
                    "",
                    (0, megabytes(run, "after")),
                    f"{megabytes(run, 'after'):,.1f} MB after {run['statement']}",
                ),
            )
        ]
    )


def _when(at: str) -> str:
    """A time of the ledger to the minute, without the year."""
    return at[5:16].replace("T", " ")


def _minutes(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Rows of each minute, of all targets together."""
    found: dict[str, int] = {}
    for row in rows:
        found[row["minute_at"]] = found.get(row["minute_at"], 0) + row["rows_read"]
    return found


def _times(run: dict[str, Any]) -> Bar:
    parts = [run[f"seconds_{work}"] or 0 for work in WORK[:-1]]
    parts.append(max(0.0, run["seconds_total"] - sum(parts)))
    named = ", ".join(f"{work} {part:.2f}" for work, part in zip(WORK, parts, strict=True))
    return Bar(str(run["run_id"]), tuple(parts), f"run {run['run_id']}: {named} s")


def bars(found: Sequence[Bar], line: float | None = None, letters: int = 5) -> str | None:
    """A plot as SVG; None where there is nothing to show. Labels are left to a template.

    So many letters of a label are to be read, at least.
    """
    top = max([sum(bar.pieces) for bar in found] + ([line] if line else []), default=0)
    if not found or top <= 0:
        return None
    step = nice_step(top)
    scale = (HEIGHT - BOTTOM - TOP) / top
    base = HEIGHT - BOTTOM
    slot = (WIDTH - LEFT) / len(found)
    ticks = [
        (base - number * step * scale, f"{number * step:,.10g}")
        for number in range(int(top / step) + 1)
    ]
    drawn = []
    for number, bar in enumerate(found):
        y = float(base)
        rects = []
        for color, piece in zip(COLORS, bar.pieces, strict=False):
            y -= piece * scale
            rects.append((y, piece * scale, color))
        drawn.append((LEFT + number * slot, rects, bar))
    return _PLOT.render(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        base=base,
        ticks=ticks,
        slot=slot,
        drawn=drawn,
        # A label gets the room of its bar, in which its end tells most, and where that is too
        # little only some bars have one.
        letters=max(letters, int(slot / 6.5)),
        shown_every=max(1, math.ceil(letters * 6.5 / slot)),
        line=None if line is None else base - line * scale,
    )


def nice_step(top: float) -> float:
    """A round distance between ticks, of which at most five fit below `top`."""
    magnitude = 10.0 ** math.floor(math.log10(top / 5))
    return next(step for factor in (1, 2, 5, 10) if top / (step := factor * magnitude) <= 5.000001)


_ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
_PLOT = _ENVIRONMENT.from_string(
    """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{ width }} {{ height }}" role="img">
{% for y, text in ticks %}
<line x1="{{ left }}" x2="{{ width }}" y1="{{ y|round(1) }}" y2="{{ y|round(1) }}" stroke="#ddd"/>
<text x="{{ left - 6 }}" y="{{ (y + 4)|round(1) }}" text-anchor="end">{{ text }}</text>
{% endfor %}
{% for x, rects, bar in drawn %}
<g><title>{{ bar.title }}</title>
{% for y, height, color in rects %}
<rect x="{{ (x + slot * 0.12)|round(2) }}" y="{{ y|round(2) }}"\
 width="{{ (slot * 0.76)|round(2) }}" height="{{ height|round(2) }}" fill="{{ color }}"/>
{% endfor %}
</g>
{% if loop.index0 % shown_every == 0 %}
<text x="{{ (x + slot / 2)|round(1) }}" y="{{ base + 15 }}"\
 text-anchor="middle">\
{{ bar.label if bar.label|length <= letters else "…" ~ bar.label[1 - letters:] }}</text>
{% endif %}
{% endfor %}
{% if line is not none %}
<line x1="{{ left }}" x2="{{ width }}" y1="{{ line|round(1) }}" y2="{{ line|round(1) }}"\
 stroke="#b0483f" stroke-dasharray="5 4"/>
{% endif %}
</svg>"""
)
_PAGE = _ENVIRONMENT.from_string(
    """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>sqlkit report</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 900px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin: 2em 0 0 } p { color: #555; margin: 0 }
svg { width: 100%; height: auto; margin-top: .6em } svg text { font-size: 11px; fill: #555 }
table { border-collapse: collapse; margin-top: .6em } td, th { padding: .15em .8em .15em 0 }
td { font-variant-numeric: tabular-nums } th { text-align: left }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .8em }
</style>
</head>
<body>
<h1>sqlkit report</h1>
<p>{{ report.made_at.strftime("%Y-%m-%d %H:%M UTC") }}; {{ report.runs|length }} runs.</p>
{% for title, text, plot, keys in plots %}
<section>
<h2>{{ title }}</h2>
<p>{{ text }}{% for key in keys %}<span class="key" style="background: {{ colors[loop.index0] }}">\
</span>{{ key }}{% endfor %}</p>
{% if plot is none %}
<p>Nothing to show yet.</p>
{% else %}
{{ plot|safe }}
{% endif %}
</section>
{% endfor %}
{% if report.strategies %}
<section>
<h2>Tables and strategies</h2>
<p>The newest run of each that read rows, what they usually have (the median), and the baseline.
Memory is the peak of the program: of tables that ran side by side, that of all together.</p>
<table>
<tr><th>target</th><th>kind</th><th>strategy</th><th>runs</th><th>run</th><th>seconds</th>\
<th>rows</th><th>rows/s</th><th>usually</th><th>memory, MB</th>\
<th>baseline</th><th>speed</th><th>memory</th></tr>
{% for it in report.strategies %}
<tr><td>{{ it.target }}</td><td>{{ it.kind }}</td><td>{{ it.strategy }}</td><td>{{ it.runs }}</td>\
<td>{{ it.run_id }}</td><td>{{ "%.2f"|format(it.seconds_total) }}</td>\
<td>{{ "{:,}".format(it.rows_read) }}</td><td>{{ "{:,.0f}".format(it.rows_per_second or 0) }}</td>\
<td>{{ "{:,.0f}".format(it.usual_rows_per_second or 0) }}</td>\
<td>{{ "" if it.client_peak_bytes is none else "{:,.0f}".format(it.client_peak_bytes / 1e6) }}</td>\
<td>{{ "" if it.baseline_run_id is none else it.baseline_run_id }}</td>\
<td>{{ "" if it.speed_ratio is none else "%.2f x"|format(it.speed_ratio) }}</td>\
<td>{{ "" if it.memory_ratio is none else "%.2f x"|format(it.memory_ratio) }}</td></tr>
{% endfor %}
</table>
</section>
{% endif %}
<section>
<h2>Runs</h2>
<table>
<tr><th>run</th><th>started</th><th>kind</th><th>target</th><th>state</th><th>rows read</th>\
<th>seconds</th></tr>
{% for run in report.runs|reverse %}
<tr><td>{{ run.run_id }}</td><td>{{ run.started_at[:19]|replace("T", " ") }}</td>\
<td>{{ run.kind }}</td><td>{{ run.target }}</td><td>{{ run.state }}</td>\
<td>{{ "{:,}".format(run.rows_read) }}</td><td>{{ "%.2f"|format(run.seconds_total) }}</td></tr>
{% endfor %}
</table>
</section>
{% if report.rejects %}
<section>
<h2>Open rejects</h2>
<table>
<tr><th>run</th><th>target</th><th>rejects</th></tr>
{% for reject in report.rejects %}
<tr><td>{{ reject.run_id }}</td><td>{{ reject.target }}</td><td>{{ reject.rejects }}</td></tr>
{% endfor %}
</table>
</section>
{% endif %}
</body>
</html>
"""
)
_ENVIRONMENT.globals["colors"] = COLORS
