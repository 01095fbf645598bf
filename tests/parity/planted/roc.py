"""All pairs judged, and what comes of it: detection and false alarms by layer, and what no layer can see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launcher.parity import Layer, Parity, Verdict
from tests.parity.planted import kinds
from tests.parity.planted.judging import Judge, found, sees
from tests.parity.planted.kinds import DIFFERENT, Pair


@dataclass(frozen=True)
class Row:
    """A pair and what was said of it."""

    pair: Pair
    said: Parity
    planted: bool

    @property
    def missed(self) -> tuple[Layer, ...]:
        """Layers that can see it, and did not."""
        return tuple(layer for layer, wanted in self.pair.sees.items() if not sees(self.said, layer, wanted))

    @property
    def alarms(self) -> tuple[Layer, ...]:
        """Layers that call it different though it is not."""
        if self.planted and not self.pair.quiet:
            return ()
        return tuple(one.layer for one in self.said.layers if one.verdict is Verdict.DIFFERENT)

    def as_json(self) -> dict[str, Any]:
        """For the table beside the benchmark."""
        return {
            "kind": self.pair.name,
            "planted": self.planted,
            "verdict": str(self.said.verdict),
            "decided_by": str(self.said.layer or ""),
            "can_see": {str(layer): grade for layer, grade in self.pair.sees.items()},
            "found": {str(layer): grade for layer in Layer if (grade := found(self.said, layer))},
            "missed": [str(layer) for layer in self.missed],
            "false_alarms": [str(layer) for layer in self.alarms],
            "blind": self.pair.blind,
        }


def judged(judge: Judge) -> list[Row]:
    """Every pair of the table."""
    table = ((True, kinds.planted()), (False, kinds.benign()))
    return [Row(pair, judge.judge(pair), planted) for planted, pairs in table for pair in pairs]


def by_layer(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line a layer, and one of all together: planted kinds that it can see, those found, those it does not see;
    benign pairs that it compared, those called different."""
    planted = [row for row in rows if row.planted]
    quiet = [row for row in rows if not row.planted or row.pair.quiet]
    lines = []
    for layer in Layer:
        can = [row for row in planted if layer in row.pair.sees]
        hit = sum(layer not in row.missed for row in can)
        more = sum(bool(found(row.said, layer)) for row in planted if layer not in row.pair.sees)
        reached = [row for row in quiet if row.said.of(layer).verdict is not None]
        false = sum(layer in row.alarms for row in reached)
        none = sum(not found(row.said, layer) for row in planted)
        lines.append((str(layer), f"{hit} of {len(can)}", str(more), str(none), f"{false} of {len(reached)}"))
    seen = [row for row in planted if row.pair.sees]
    hit = sum(not row.missed for row in seen)
    none = sum(not any(found(row.said, layer) for layer in Layer) for row in planted)
    false = sum(row.said.verdict is Verdict.DIFFERENT for row in quiet)
    return [*lines, ("all", f"{hit} of {len(seen)}", "", str(none), f"{false} of {len(quiet)}")]


COLUMNS = ("layer", "found, of those it can see", "found besides", "not found by it", "benign called different")


def not_seen(rows: Sequence[Row]) -> list[str]:
    """Planted kinds that no layer finds, each with why."""
    found_none = (row for row in rows if row.planted and not any(found(row.said, layer) for layer in Layer))
    return [f"{row.pair.name}: {row.pair.blind or 'NOT EXPLAINED'}" for row in found_none]


def markdown(rows: Sequence[Row], head: str) -> str:
    """The whole table."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def grade(row: Row, layer: Layer) -> str:
        mark = {DIFFERENT: "different", "named": "named", "": ""}[found(row.said, layer)]
        lost = " **missed**" if layer in row.missed else ""
        return f"{mark or ('-' if row.said.of(layer).verdict is None else '')}{lost}"

    parts = [head, "\n".join(map(line, (COLUMNS, ["---"] * len(COLUMNS), *by_layer(rows))))]
    parts.append("No layer sees, and why:\n\n" + "\n".join(f"- {text}" for text in not_seen(rows)))
    for planted, title in ((True, "Planted"), (False, "Benign")):
        cells = [
            (row.pair.name, str(row.said.verdict), *(grade(row, layer) for layer in Layer))
            for row in rows
            if row.planted is planted
        ]
        columns = (title, "verdict", *map(str, Layer))
        parts.append("\n".join(map(line, (columns, ["---"] * len(columns), *cells))))
    return "\n\n".join(parts) + "\n"
