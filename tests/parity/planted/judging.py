"""A pair of the table, judged by `launcher.parity.compare` as a user would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.analysis import load_run
from launcher.analysis.model import RunView
from launcher.parity import Kind, Layer, Parity, Verdict, compare
from launcher.settings import Settings
from tests.parity.planted import evidence
from tests.parity.planted.edits import Edit
from tests.parity.planted.kinds import DIFFERENT, NAMED, RUNS, Pair
from tests.parity.planted.making.lab import slug


@dataclass
class Judge:
    """Run folders below `folder/runs`, probes by name; pairs are judged in copies of these."""

    folder: Path
    probes: Mapping[str, Any]

    def __post_init__(self) -> None:
        self._settings = replace(Settings.load({}), runs_dir=self.folder / "runs", cache_dir=self.folder / "cache")
        self._folders: dict[str, RunView] = {}

    def judge(self, pair: Pair) -> Parity:
        """What parity says of the pair. Nothing is validated anew: what was validated is beside the runs."""
        place = self.folder / "pairs" / slug(pair.name)
        shutil.rmtree(place, ignore_errors=True)
        run = self._made(place / "run" / slug(pair.run), pair.run, pair, pair.edit, pair.probe)
        probe = "again" if pair.probe else ""
        reference = self._made(place / "reference" / slug(pair.reference), pair.reference, pair, pair.also, probe)
        seeds = [self._seed(name, pair.foreign) for name in pair.seeds if name not in (pair.run, pair.reference)]
        return compare(run, reference, seeds, validate=False, settings=self._settings)

    def _made(self, to: Path, name: str, pair: Pair, edit: Edit | None, probe: str) -> RunView:
        evidence.copied(self.folder / "runs" / slug(name), to, foreign=pair.foreign)
        if probe and not pair.foreign:
            (to / "probe.json").write_text(json.dumps(self.probes[probe]))
        if not (runs := to.parent / RUNS).exists():
            runs.symlink_to(self.folder / "runs")
        if edit is not None:
            edit(to)
        return load_run(to, self._settings)

    def _seed(self, name: str, foreign: bool) -> RunView:
        key = f"{name} {foreign}"
        if key not in self._folders:
            place = self.folder / "runs" / slug(name)
            if foreign:
                to = self.folder / "pairs" / "seeds" / slug(name)
                shutil.rmtree(to, ignore_errors=True)
                evidence.copied(place, to, foreign=True)
                place = to
            self._folders[key] = load_run(place, self._settings)
        return self._folders[key]


def found(said: Parity, layer: Layer) -> str:
    """What a layer makes of a pair: DIFFERENT, NAMED, or nothing. (Of the inputs many are listed that are harmless.)"""
    of = said.of(layer)
    if of.verdict is Verdict.DIFFERENT:
        return DIFFERENT
    told = (one for one in of.differences if one.kind is not Kind.HARMLESS or layer is Layer.CURVES)
    return NAMED if any(told) else ""


def sees(said: Parity, layer: Layer, wanted: str) -> bool:
    """Whether a layer has found at least what it can see."""
    return found(said, layer) == DIFFERENT or found(said, layer) == wanted
