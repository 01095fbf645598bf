"""What the analysis says, as frozen values: the report, the terminal, Markdown and JSON all show these.

What was read of a run is in `launcher.analysis.reading.view`, and can be imported from here, too. Every statement is a
`launcher.finding.Finding` (stable code, severity, message, evidence, remedy, source). Severities here: INFO is worth
knowing, WARNING changes how a number may be read, ERROR says that a number or file is wrong or missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.analysis.reading.view import (
    ACCURACIES,
    GAIN_OF,
    LABELS,
    LOSSES,
    MAP50,
    MAP5095,
    METRICS,
    MORE_METRICS,
    PRECISION,
    RECALL,
    RTDETR_GAINS,
    Config,
    FileRow,
    Kind,
    Moment,
    Phase,
    Plain,
    Repair,
    Results,
    RunView,
    Series,
    Status,
    plain,
)
from launcher.finding import Finding

__all__ = [
    "ACCURACIES",
    "GAIN_OF",
    "LABELS",
    "LOSSES",
    "MAP50",
    "MAP5095",
    "METRICS",
    "MORE_METRICS",
    "PRECISION",
    "RECALL",
    "RTDETR_GAINS",
    "Analysis",
    "Change",
    "Comparison",
    "ComparisonRow",
    "Config",
    "Difference",
    "FileRow",
    "Interval",
    "Kind",
    "LossRow",
    "Mark",
    "MetricRow",
    "Moment",
    "NextRun",
    "Phase",
    "Plain",
    "Progression",
    "Repair",
    "Results",
    "RunView",
    "Section",
    "Series",
    "Spread",
    "Status",
    "Summary",
    "Timing",
    "plain",
]


MANIFOLD, TOO_MANY = 10, 9999.5  # times: from which on a change is told as a factor, and as a great one


@dataclass(frozen=True)
class Change(Plain):
    """A difference: absolute, and relative to the reference (a share: -0.47 is -47 %; None where that is 0)."""

    before: float
    after: float
    absolute: float
    relative: float | None

    @property
    def percent(self) -> str:
        """`−47 %`, with a real minus sign for people; `× 250` from ten times on, where a percentage says little; empty
        where there is nothing to divide by."""
        if self.relative is None:
            return ""
        if self.relative >= MANIFOLD - 1:
            times = self.after / self.before
            return f"× {times:,.0f}" if times < TOO_MANY else "× 10,000 and more"
        share = round(self.relative * 100)
        return f"{share:+d} %".replace("-", "−") if share else "±0 %"


@dataclass(frozen=True)
class Interval(Plain):
    """Where a share may lie, `level` 0.95, given that it was counted on `count` things. `method` names the formula."""

    low: float
    high: float
    count: int
    level: float = 0.95
    method: str = "Wilson"


@dataclass(frozen=True)
class MetricRow(Plain):
    """One metric. `best` is its value in the run's best epoch (by fitness); `peak` the metric's own maximum."""

    name: str
    label: str
    final: float | None
    best: float | None
    peak: float | None
    peak_epoch: int | None
    interval: Interval | None = None
    reference_final: float | None = None
    reference_best: float | None = None
    final_change: Change | None = None
    """Final epoch against the reference's final epoch."""
    best_change: Change | None = None
    """Best epoch against the reference's best epoch."""


@dataclass(frozen=True)
class LossRow(Plain):
    """One loss in one split. `gain` multiplied it; `per_gain` is the last value divided by it. Changes: against the
    reference's last epoch; `raw_change` is shown only to warn of it where the gains differ (`comparable` False)."""

    name: str
    label: str
    loss: str
    split: str
    gain: float | None
    first: float | None
    last: float | None
    lowest: float | None
    lowest_epoch: int | None
    per_gain: float | None
    reference_last: float | None = None
    reference_gain: float | None = None
    reference_per_gain: float | None = None
    raw_change: Change | None = None
    per_gain_change: Change | None = None
    comparable: bool = True


@dataclass(frozen=True)
class Difference(Plain):
    """One argument that differs. `values` in the order of the runs (the run first, then its references); `default` is
    Ultralytics' own. `group`: what it acts on: training, validation, schedule, data, model, seed, machine. A value is
    None where it is null, or where that run's configuration is not known."""

    name: str
    values: tuple[Any, ...]
    default: Any
    group: str
    at_default: tuple[bool, ...]
    note: str = ""
    follows: bool = False
    """It follows from other differences that are listed: no cause of its own."""


@dataclass(frozen=True)
class Mark(Plain):
    """Something at an epoch that a chart shows: best, mosaic-closed, restart, gap, warning."""

    epoch: int
    code: str
    text: str


@dataclass(frozen=True)
class Progression(Plain):
    """The run by epoch. `per_gain` holds each loss divided by its gain; only those whose gain is known."""

    epochs: tuple[int, ...]
    metrics: Mapping[str, Series]
    losses: Mapping[str, Series]
    per_gain: Mapping[str, Series]
    rates: Mapping[str, Series]
    seconds: Series
    fitness: Series
    best_epoch: int | None
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Timing(Plain):
    """Where the time went, in seconds. `gaps`: epoch to its seconds; `usual`: median of the epochs without a gap."""

    total: float | None
    usual: float | None
    gaps: Mapping[int, float]
    without_gaps: float | None


@dataclass(frozen=True)
class Summary(Plain):
    """The head of the report."""

    name: str
    status: Status
    status_text: str
    epochs_done: int
    epochs_asked: int | None
    best_epoch: int | None
    best_by: str
    """What `best` is chosen by, in words."""
    final: Mapping[str, float | None]
    best: Mapping[str, float | None]
    timing: Timing
    model: str
    data: str
    hardware: str
    versions: str


@dataclass(frozen=True)
class NextRun(Plain):
    """A run to try: one changed thing, as a spec that `launch` takes. `because` are codes of findings."""

    name: str
    change: str
    because: tuple[str, ...]
    spec: str


@dataclass(frozen=True)
class Section(Plain):
    """A part of the report with what is said in it; the numbers are in the fields of `Analysis`."""

    code: str
    title: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Analysis(Plain):
    """What the numbers of one run say, alone or against references (the first of them is the one compared with)."""

    run: RunView
    references: tuple[RunView, ...]
    summary: Summary
    key: tuple[Finding, ...]
    """The findings that matter most, the most important first; each is in a section, too."""
    differences: tuple[Difference, ...]
    metrics: tuple[MetricRow, ...]
    losses: tuple[LossRow, ...]
    progression: Progression
    reference_progressions: tuple[Progression, ...]
    files: tuple[FileRow, ...]
    sections: tuple[Section, ...]
    """In the order of the report: configuration, metrics, progression, losses, technical, stability, overfitting,
    files, lessons. A section without findings is there, and empty."""
    next_runs: tuple[NextRun, ...]

    def section(self, code: str) -> Section:
        """The section of that code. Raises KeyError."""
        return {one.code: one for one in self.sections}[code]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All, in the order of the sections."""
        return tuple(finding for section in self.sections for finding in section.findings)

    def _repr_markdown_(self) -> str:
        """What Jupyter shows."""
        from launcher.analysis.markdown import markdown

        return markdown(self)


@dataclass(frozen=True)
class ComparisonRow(Plain):
    """A run in the table. `changes` says what differs from the first run; `group` numbers the same configuration, in
    which seeds and machines may differ. `final`, `best`: the four metrics of boxes, and what else the table has."""

    id: str
    name: str
    status: Status
    epochs_done: int
    epochs_asked: int | None
    best_epoch: int | None
    final: Mapping[str, float | None]
    best: Mapping[str, float | None]
    final_changes: Mapping[str, Change]
    """Against the first run's final epoch; empty for the first run."""
    seconds: float | None
    seed: int | None
    changes: tuple[str, ...]
    group: int


@dataclass(frozen=True)
class Spread(Plain):
    """A metric of the best epochs over the seeds of one configuration. `runs` (ids) are those that ended, without
    those that are another again, number for number. `deviation`: sample standard deviation, None for one run.

    `needed` is how far another single run must lie from the mean to be outside the 95 % prediction interval:
    t(n-1) * deviation * sqrt(1 + 1/n); None for one run.
    """

    group: int
    runs: tuple[str, ...]
    metric: str
    mean: float
    deviation: float | None
    low: float
    high: float
    needed: float | None


@dataclass(frozen=True)
class Comparison(Plain):
    """Several runs side by side, in the order given; changes are against the first."""

    runs: tuple[RunView, ...]
    rows: tuple[ComparisonRow, ...]
    differences: tuple[Difference, ...]
    spreads: tuple[Spread, ...]
    findings: tuple[Finding, ...]
    progressions: tuple[Progression, ...]

    def _repr_markdown_(self) -> str:
        """What Jupyter shows."""
        from launcher.analysis.markdown import comparison_markdown

        return comparison_markdown(self)
