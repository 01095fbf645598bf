"""The hazards of a run that can be known before it starts: what Ultralytics would do silently, or only on this machine.

Promises: a pure function of what comes in. A rule's code is stable. An error is said only where the run would
certainly be wrong or fail; each warning has the numbers it rests on, what to type instead, and where it is from.
"""

from __future__ import annotations

from collections.abc import Mapping

from launcher.backend import Offer
from launcher.data.check import DatasetFacts
from launcher.finding import Finding, Severity
from launcher.plan import machine_rules, training_rules
from launcher.plan.case import Case, Room
from launcher.plan.rule import Rule
from launcher.spec.arguments import Arguments
from launcher.spec.model import JobSpec

RULES: tuple[Rule, ...] = (*machine_rules.RULES, *training_rules.RULES)
_ORDER = (Severity.ERROR, Severity.WARNING, Severity.INFO)


def hazards(
    spec: JobSpec,
    offer: Offer,
    facts: DatasetFacts | None,
    versions: Mapping[str, str],
    arguments: Arguments,
    *,
    room: Room | None = None,
) -> list[Finding]:
    """What is odd about this spec on this machine, errors first.

    `facts` None: the dataset is not known yet. `versions` are those of the environment that will train, by
    distribution. `room` is what is free there, where that is better known than the offer says.
    """
    return find(Case(spec, offer, facts, versions, arguments, room or Room.of(offer)))


def find(case: Case) -> list[Finding]:
    """The same for a case that is made already."""
    found = [finding for rule in RULES if (finding := rule.find(case)) is not None]
    return sorted(found, key=lambda finding: _ORDER.index(finding.severity))
