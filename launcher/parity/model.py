"""What parity says, as frozen values: one verdict, the layer that decided it, what differs, what was not checked.

Nothing is concluded here: `launcher.parity.verdict` makes one verdict of the layers' own. Importing this imports
neither torch, Ultralytics, numpy nor scipy.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.analysis.reading.view import Plain, Series

VERSION = 1
"""Of `parity.json`: counted up when something in it gets another name or meaning."""


class Verdict(enum.StrEnum):
    """What a layer, or all of them together, says of two runs. The first three claim something, each less."""

    IDENTICAL = "identical"
    EQUIVALENT = "equivalent"
    """Shown to be within a margin."""
    CONSISTENT = "consistent"
    """Inside the spread of seeds; equality is not shown."""
    INCONCLUSIVE = "inconclusive"
    DIFFERENT = "different"

    @property
    def claims(self) -> bool:
        """Whether it says that the two agree."""
        return self in (Verdict.IDENTICAL, Verdict.EQUIVALENT, Verdict.CONSISTENT)


class Layer(enum.StrEnum):
    """In the order of their cost, the cheapest first."""

    INPUTS = "inputs"
    PROBE = "probe"
    WEIGHTS = "weights"
    CURVES = "curves"


class Kind(enum.StrEnum):
    """What a difference is known to do. Order: what matters most first."""

    MUST_EQUAL = "must-equal"
    """Another experiment."""
    CHANGES_STREAM = "changes-the-stream"
    """The same experiment with other random numbers, order or batches: as another seed."""
    NUMERIC_NOISE = "numeric-noise"
    """The same numbers but for rounding, which grows to that of another seed within some 15 steps."""
    HARMLESS = "harmless"


KINDS = tuple(Kind)


@dataclass(frozen=True)
class Difference(Plain):
    """One thing that the run has otherwise than its reference. Values are plain JSON; None is `not set`.

    `weight` sorts within a kind, the greatest first: how much it is known to move the result (0 to 100). `source` is a
    link, or where it was measured.
    """

    what: str
    run: Any
    reference: Any
    kind: Kind
    why: str
    source: str = ""
    weight: int = 50


@dataclass(frozen=True)
class LayerResult(Plain):
    """What one layer says. `verdict` is None where it was not reached: nothing was compared.

    `decided`: in a sentence, with the numbers. `evidence`: plain JSON numbers. `not_checked`: what it could not look
    at, each a short phrase.
    """

    layer: Layer
    verdict: Verdict | None
    decided: str
    differences: tuple[Difference, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    not_checked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Band(Plain):
    """A column of results.csv over the epochs, for a picture: the run, its reference, and the 95 % prediction interval
    of one more seed (each epoch by itself, so some epochs of a good run lie outside). NaN where there is no value."""

    column: str
    label: str
    epochs: tuple[int, ...]
    run: Series
    reference: Series
    mean: Series = ()
    low: Series = ()
    high: Series = ()
    per_gain: bool = False
    """A loss, divided by its gain."""


@dataclass(frozen=True)
class Parity(Plain):
    """Whether the run is the same experiment as its reference.

    `layer` decided it; None where no layer was reached. `references`: ids of the runs whose spread was used, the
    reference first. `assumed`: what the user vouched for and nobody checked. `not_checked` and `differences` are those
    of all layers, the differences sorted by how much they are known to matter.
    """

    verdict: Verdict
    layer: Layer | None
    reason: str
    run: str
    reference: str
    layers: tuple[LayerResult, ...]
    references: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    bands: tuple[Band, ...] = ()
    version: int = VERSION

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Of all layers, those first that matter most."""
        found = [one for layer in self.layers for one in layer.differences]
        return tuple(sorted(found, key=lambda one: (KINDS.index(one.kind), -one.weight, one.what)))

    @property
    def not_checked(self) -> tuple[str, ...]:
        """Of all layers."""
        return tuple(dict.fromkeys(f"{one.layer}: {what}" for one in self.layers for what in one.not_checked))

    def of(self, layer: Layer) -> LayerResult:
        """What that layer said. Raises KeyError."""
        return {one.layer: one for one in self.layers}[layer]

    def as_json(self) -> dict[str, Any]:
        """Plain values; differences and what was not checked also for all layers together."""
        made = super().as_json()
        together = {
            "differences": [one.as_json() for one in self.differences],
            "not_checked": list(self.not_checked),
        }
        bands = made.pop("bands")
        return {**made, **together, "bands": bands}

    def _repr_markdown_(self) -> str:
        """What Jupyter shows."""
        from launcher.parity.words import markdown

        return markdown(self)

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        """What IPython shows on a terminal."""
        from launcher.parity.words import lines

        printer.text("\n".join(lines(self)))
