"""The inputs layer: every difference, what it does, and what of the inputs is not known."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from launcher.parity.inputs import evidence as e
from launcher.parity.inputs import table
from launcher.parity.inputs.evidence import Evidence
from launcher.parity.model import KINDS, Difference, Kind, Layer, LayerResult, Verdict

GROUPS = ("data", "initial-weights", "trainer", "versions", "files", "arguments")
"""What a user can vouch for where it is not known."""
PHRASES = {
    "data": "whether the images, labels and split are the same",
    "initial-weights": "the model and the weights that the training began from",
    "trainer": "what the trainer really had (optimizer, learning rate, number of images)",
    "versions": "the versions that were installed",
    "files": "whether the files are those that came back",
    "arguments": "arguments of the training",
}
ONLY_CURVES = frozenset({e.RESTARTS, e.ENDED, e.BATCHES, "had.batch"})
"""Differences after which two runs can agree in their curves at most."""


def inputs_layer(run: Evidence, reference: Evidence, assume: Collection[str] = ()) -> LayerResult:
    """What differs between two runs' inputs. `assume`: groups that the user vouches for where they are not known.

    identical: all that must be equal is known and equal, and nothing else differs that acts on numbers. consistent: the
    same experiment with another stream of numbers. different: something that must be equal is not. inconclusive:
    something that must be equal is not known.
    """
    if not run.fields or not reference.fields:
        return LayerResult(Layer.INPUTS, None, "nothing is known of the inputs", not_checked=tuple(PHRASES.values()))
    names = sorted({*run.fields, *reference.fields})
    found = [one for name in names if (one := _difference(name, run, reference)) is not None]
    found.sort(key=lambda one: (KINDS.index(one.kind), -one.weight, one.what))
    unknown = _unknown(run, reference)
    missing = {group: names for group, names in unknown.items() if group not in assume}
    told = tuple(_phrase(group, names, assumed=group in assume) for group, names in unknown.items())
    both = [name for name in names if name in run and name in reference]
    evidence = {
        "compared": len(both),
        "equal": len(both) - len(found),
        "unknown": {group: list(names) for group, names in unknown.items()},
        "assumed": sorted(set(assume) & set(unknown)),
        "curves_only": sorted(one.what for one in found if one.what in ONLY_CURVES),
    }
    verdict, decided = _judge(found, missing)
    if evidence["assumed"] and verdict is Verdict.IDENTICAL:
        verdict, decided = Verdict.CONSISTENT, f"equal as far as known; assumed: {', '.join(sorted(assume))}"
    return LayerResult(Layer.INPUTS, verdict, decided, tuple(found), evidence, told)


def _difference(name: str, run: Evidence, reference: Evidence) -> Difference | None:
    """The difference in one field; None where there is none, or where one side is not known."""
    if name not in run or name not in reference:
        return None
    one, other = run[name], reference[name]
    if table.same(one, other) and not (name.startswith(e.FILE) and one == e.CHANGED):
        return None
    rule = table.rule(name, run, reference)
    return Difference(name, one, other, rule.kind, rule.why, rule.source, rule.weight)


def _unknown(run: Evidence, reference: Evidence) -> dict[str, tuple[str, ...]]:
    """What has to be known and is not, by the word that a user can vouch for it with."""
    found: dict[str, list[str]] = {}
    for name in table.expected(run, reference):
        if name not in run or name not in reference:
            found.setdefault(table.rule(name, run, reference).group or "arguments", []).append(name)
    return {group: tuple(found[group]) for group in GROUPS if group in found}


def _judge(found: Sequence[Difference], missing: dict[str, tuple[str, ...]]) -> tuple[Verdict, str]:
    of = {kind: [one for one in found if one.kind is kind] for kind in KINDS}
    if musts := of[Kind.MUST_EQUAL]:
        more = f", and {len(musts) - 1} more" if len(musts) > 1 else ""
        return Verdict.DIFFERENT, f"{_pair(musts[0])}{more}: {musts[0].why}"
    if missing:
        return Verdict.INCONCLUSIVE, f"not known: {'; '.join(PHRASES[group] for group in missing)}"
    if streams := of[Kind.CHANGES_STREAM]:
        curves = [one.what for one in streams if one.what in ONLY_CURVES]
        text = f"the same experiment with another stream of random numbers or batches ({_names(streams)})"
        return Verdict.CONSISTENT, f"{text}; comparable by its curves only" if curves else text
    if noise := of[Kind.NUMERIC_NOISE]:
        return Verdict.CONSISTENT, f"the same experiment, computed otherwise ({_names(noise)})"
    return Verdict.IDENTICAL, "all that acts on the training is known, and equal"


def _names(found: Sequence[Difference]) -> str:
    shown = ", ".join(one.what for one in found[:4])
    return f"{shown} and {len(found) - 4} more" if len(found) > 4 else shown


def _pair(one: Difference) -> str:
    return f"{one.what} is {short(one.run)}, {short(one.reference)} in the reference"


def short(value: Any) -> str:
    """A value for people; a digest by its beginning."""
    text = str(value)
    if len(text) == 64 and text.isalnum():
        return f"{text[:12]}…"
    return text if len(text) <= 60 else f"{text[:59]}…"


def _phrase(group: str, names: Sequence[str], *, assumed: bool) -> str:
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"{PHRASES[group]} ({shown}){', which was assumed' if assumed else ''}"
