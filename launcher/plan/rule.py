"""The form of a rule: what it is called, how much it matters, where it is from, and the function that looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from launcher.finding import Finding, Severity
from launcher.plan.case import Case

ISSUES = "https://github.com/ultralytics/ultralytics/issues/"
PULLS = "https://github.com/ultralytics/ultralytics/pull/"
CODE = "ultralytics 8.4.190, "
"""Before the place in its source, where a claim was read there."""


@dataclass(frozen=True)
class Said:
    """What a rule that fires says of this case."""

    message: str
    evidence: str
    remedy: str = ""


@dataclass(frozen=True)
class Rule:
    """A hazard of the table. `look` says nothing (None) where the hazard is not there."""

    code: str
    severity: Severity
    source: str
    look: Callable[[Case], Said | None]

    def find(self, case: Case) -> Finding | None:
        """The finding, if the hazard is there."""
        said = self.look(case)
        if said is None:
            return None
        return Finding(self.code, self.severity, said.message, said.evidence, said.remedy, self.source)
