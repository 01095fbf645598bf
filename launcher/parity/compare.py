"""Two runs, four layers, one verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from launcher.analysis import load_run
from launcher.analysis import seeds as seeds_of
from launcher.analysis.compare import told_apart
from launcher.analysis.model import Kind as RunKind
from launcher.analysis.model import RunView
from launcher.parity.curves.bands import bands
from launcher.parity.curves.layer import LAST_EPOCHS, Margin, curves_layer
from launcher.parity.curves.series import Table, table
from launcher.parity.inputs import evidence as e
from launcher.parity.inputs.evidence import Evidence, gather
from launcher.parity.inputs.layer import GROUPS, inputs_layer
from launcher.parity.model import Layer, LayerResult, Parity, Verdict
from launcher.parity.probing import probe_layer, probe_planned
from launcher.parity.references import repeats
from launcher.parity.verdict import combine
from launcher.parity.weights import weights_layer
from launcher.settings import Settings

Run = RunView | str | Path


def compare(
    run: Run,
    reference: Run,
    seeds: Iterable[Run] | None = None,
    *,
    margin: Margin | None = None,
    last_epochs: int = LAST_EPOCHS,
    assume: Collection[str] = (),
    validate: bool = True,
    settings: Settings | None = None,
) -> Parity:
    """Whether the run is the same experiment as its reference.

    Each is a run of samerun, a folder of Ultralytics or a results.csv (`launcher.analysis.load_run`). `seeds` are more
    runs of the reference's configuration with other seeds; None looks for them among the verified runs here. `margin`
    (absolute, 0.02 is two points of mAP): one for all metrics, or by metric, for a claim of equivalence. `assume`:
    what the caller vouches for where it is not known (`launcher.parity.inputs.layer.GROUPS`). `validate`: validate
    best.pt again here where that was not done yet.

    Raises NotFoundError, DataError and IntegrityError as load_run does, ValueError for an unknown margin or assumption,
    and for a run that is its own reference.
    """
    if unknown := sorted(set(assume) - set(GROUPS)):
        raise ValueError(f"{unknown[0]!r} cannot be assumed; known: {', '.join(GROUPS)}")
    if last_epochs < 1:
        raise ValueError(f"last_epochs must be 1 or more, not {last_epochs}")
    settings = settings or Settings.load()
    mine, its = told_apart([_view(run, settings), _view(reference, settings)])
    if _place(mine) == _place(its):
        raise ValueError(f"{mine.id} is its own reference: that it is identical to itself says nothing")
    ours, theirs = gather(mine), gather(its)
    more, left_out = _seeds(its, theirs, mine, seeds, settings)
    tables = [_table(view, known) for view, known in ((mine, ours), (its, theirs), *more)]
    layers = (
        inputs_layer(ours, theirs, assume),
        _probe(mine, its),
        weights_layer(mine, its, validate=validate, settings=settings),
        _and(curves_layer(tables[0], tables[1], tables[2:], margin=margin, last_epochs=last_epochs), left_out),
    )
    verdict, layer, reason = combine(layers, planned=probe_planned(mine))
    return Parity(
        verdict=verdict,
        layer=layer,
        reason=reason,
        run=mine.id,
        reference=its.id,
        layers=layers,
        references=(its.id, *(view.id for view, _ in more)),
        assumed=tuple(layers[0].evidence.get("assumed", ())),
        bands=bands(tables[0], tables[1], tables[2:]),
    )


def _view(run: Run, settings: Settings) -> RunView:
    return run if isinstance(run, RunView) else load_run(run, settings)


def _place(view: RunView) -> Path:
    return view.where.resolve()


def _table(view: RunView, known: Evidence) -> Table:
    return table(view, str(known.fields.get(e.ENDED, "")))


def _probe(run: RunView, reference: RunView) -> LayerResult:
    found = probe_layer(run, reference)
    return found if found.layer is Layer.PROBE else replace(found, layer=Layer.PROBE)


def _and(layer: LayerResult, left_out: Sequence[str]) -> LayerResult:
    return replace(layer, not_checked=(*layer.not_checked, *left_out)) if left_out else layer


def _seeds(
    reference: RunView, known: Evidence, run: RunView, given: Iterable[Run] | None, settings: Settings
) -> tuple[list[tuple[RunView, Evidence]], tuple[str, ...]]:
    """Other seeds of the reference, each once; and what was given and is none, with why."""
    left_out: list[str] = []
    if given is None:
        found = repeats(reference, known, settings) if reference.kind is RunKind.RUN else []
        candidates = [(view, held) for view, held in found if _place(view) != _place(run)]
    else:
        candidates = []
        for one in given:
            view = _view(one, settings)
            held = gather(view)
            differs = inputs_layer(held, known)
            if _place(view) == _place(run):
                left_out.append(f"{view.id} as a seed: it is the run itself")
            elif differs.verdict is Verdict.DIFFERENT:
                left_out.append(f"{view.id} as a seed: {differs.decided}")
            else:
                candidates.append((view, held))
    kept: list[tuple[RunView, Evidence]] = []
    for view, held in candidates:
        twin = next((one.id for one in (reference, *(one for one, _ in kept)) if seeds_of.same(view, one)), None)
        if view.status in seeds_of.CUT_SHORT:
            left_out.append(f"{view.id} as a seed: {view.status}")
        elif twin is not None:
            left_out.append(f"{view.id} as a seed: it is {twin} again, to the digit")
        else:
            kept.append((view, held))
    return kept, tuple(left_out)
