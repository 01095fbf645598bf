"""Repeats of a run: verified runs in the store that are it in all but the seed. There is no other list of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.analysis import load_run
from launcher.analysis.model import RunView
from launcher.errors import SamerunError
from launcher.parity.inputs import table
from launcher.parity.inputs.evidence import DIGESTS, HAD, INITIAL, Evidence, gather
from launcher.parity.inputs.layer import inputs_layer
from launcher.parity.model import Kind
from launcher.runs import record as records
from launcher.runs.record import RunRecord
from launcher.runs.state import RunState
from launcher.runs.store import Store
from launcher.settings import Settings

SEED = "train.seed"
ALLOWED = frozenset({SEED, INITIAL})
QUIET_KINDS = frozenset({Kind.HARMLESS, Kind.NUMERIC_NOISE})
MOST = 200
"""Repeats that are taken: more do not make an interval narrower."""


def repeats(reference: RunView, known: Evidence, settings: Settings) -> list[tuple[RunView, Evidence]]:
    """Newest first, each with what is known of its inputs. A run that cannot be read is none."""
    try:
        record = records.read(reference.where)
    except SamerunError:
        return []
    store = Store(settings.runs_dir)
    found: list[tuple[RunView, Evidence]] = []
    for row in store.rows():
        if row.state != RunState.VERIFIED or row.id == reference.id or row.epochs != record.epochs:
            continue
        try:
            if not _alike(store.read(row.id), record):
                continue
            view = load_run(store.folder(row.id), settings)
        except SamerunError:
            continue
        held = gather(view)
        if is_repeat(held, known):
            found.append((view, held))
        if len(found) == MOST:
            break
    return found


def is_repeat(one: Evidence, reference: Evidence) -> bool:
    """Whether all that is known of the reference is known and equal but the seed, what is drawn from it, and what is
    noise or harmless. Another experiment that has lost its arguments would widen the interval for everything."""
    if SEED not in one or SEED not in reference or one[SEED] == reference[SEED]:
        return False
    if one.fields.get(f"{HAD}device") == "mps":  # its metrics were seen 2.6 times off (ultralytics#24399)
        return False
    if any(name in reference and name not in one for name in table.expected(one, reference)):
        return False
    differences = inputs_layer(one, reference).differences
    return all(difference.what in ALLOWED or difference.kind in QUIET_KINDS for difference in differences)


def _alike(one: RunRecord, other: RunRecord) -> bool:
    """A cheap look at two records, before events and tables are read."""
    return one.model == other.model and _data(one.data) == _data(other.data)


def _data(data: Mapping[str, Any] | None) -> tuple[Any, ...]:
    return tuple((data or {}).get(name) for name in DIGESTS)
