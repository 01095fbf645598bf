"""One verdict of four layers, so that less evidence never claims more.

    layer        may say different   needed for identical          needed for equivalent, consistent
    inputs       yes                 all that must be equal known  the same, or vouched for by the user
                                     and equal, nothing assumed
    probe        yes                 if one was planned            if one was planned
    weights      yes                 state dicts equal to the bit  validated again
    curves       yes                 all tables the same           the layer's own claim

`different` of any layer decides, and so do equal weights beside unequal tables. A claim needs every layer that could
deny it: without the layer, or with a field of it gone, the verdict is `inconclusive`. So taking evidence away (a layer,
a field of the inputs, a column or an epoch, a checkpoint) never turns `different` or `inconclusive` into a claim, nor a
claim into a greater one. Two things are no evidence and not covered: what the user vouches for, and whether a probe was
planned at all. And seeds are: with fewer of them an interval is another one, mostly wider, so `different` can become
`consistent`; never `identical`, for which seeds do not count.
"""

from __future__ import annotations

from collections.abc import Sequence

from launcher.parity.model import Layer, LayerResult, Verdict


def combine(layers: Sequence[LayerResult], *, planned: bool = False) -> tuple[Verdict, Layer | None, str]:
    """The verdict, the layer that decided it, and why. `planned`: a probe was to be made; a layer that is not among
    these was not reached."""
    of = {one.layer: one for one in layers}
    said = {layer: of[layer].verdict if layer in of else None for layer in Layer}
    if all(verdict is None for verdict in said.values()):
        return Verdict.INCONCLUSIVE, None, "nothing could be compared"
    for layer in Layer:
        if said[layer] is Verdict.DIFFERENT:
            return Verdict.DIFFERENT, layer, of[layer].decided
    other = (
        said[Layer.WEIGHTS] is Verdict.IDENTICAL and Layer.CURVES in of and of[Layer.CURVES].evidence.get("first_other")
    )
    if other:
        why = f"the weights are the reference's to the bit, but {other}"
        return Verdict.DIFFERENT, Layer.WEIGHTS, f"{why}: a table was edited, or validated otherwise"
    lacking = next((layer for layer in _needed(planned) if not claims(said[layer])), None)
    if lacking is not None:
        return Verdict.INCONCLUSIVE, lacking, _lacking(lacking, of)
    if said[Layer.WEIGHTS] is said[Layer.CURVES] is Verdict.IDENTICAL and not of[Layer.INPUTS].evidence.get("assumed"):
        return Verdict.IDENTICAL, Layer.WEIGHTS, f"{of[Layer.WEIGHTS].decided}; {of[Layer.CURVES].decided}"
    if said[Layer.CURVES] in (Verdict.IDENTICAL, Verdict.EQUIVALENT):
        return Verdict.EQUIVALENT, Layer.CURVES, of[Layer.CURVES].decided
    return Verdict.CONSISTENT, Layer.CURVES, of[Layer.CURVES].decided


def claims(verdict: Verdict | None) -> bool:
    """Whether it says that two runs agree."""
    return verdict is not None and verdict.claims


def _needed(planned: bool) -> tuple[Layer, ...]:
    probe = (Layer.PROBE,) if planned else ()
    return (Layer.INPUTS, *probe, Layer.CURVES, Layer.WEIGHTS)


def _lacking(layer: Layer, of: dict[Layer, LayerResult]) -> str:
    """What is missing, and what the curves say all the same."""
    one = of.get(layer)
    text = one.decided if one is not None else f"the {layer} were not compared"
    curves = of.get(Layer.CURVES)
    if layer is Layer.CURVES or curves is None or not claims(curves.verdict):
        return text
    return f"{text}. The curves alone are {curves.verdict}"
