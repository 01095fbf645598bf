"""A verdict in words: lines for a terminal, Markdown for a notebook or a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.analysis.markdown import escape
from launcher.parity.inputs.layer import short
from launcher.parity.model import Kind, LayerResult, Parity

SHOWN = 12
"""Differences that a terminal shows; JSON and the report have them all."""
MEANS = {
    "identical": "the same experiment, to the bit",
    "equivalent": "shown to be within the margin",
    "consistent": "inside the spread of seeds; equality is not shown",
    "different": "another experiment",
    "inconclusive": "not enough evidence for more",
}


def lines(said: Parity) -> Iterator[str]:
    """For a terminal: verdict, layers, differences that matter, what was not checked; control characters as `?`."""
    for line in _lines(said):
        yield "".join(one if one.isprintable() else "?" for one in line)


def _lines(said: Parity) -> Iterator[str]:
    by = f", by the {said.layer} layer" if said.layer else ""
    yield f"{said.verdict.upper()}  {said.run} against {said.reference}: {MEANS[said.verdict]}{by}"
    yield f"  reason   {said.reason}"
    for layer in said.layers:
        yield f"  {layer.layer:<8} {word(layer)}: {layer.decided}"
    found = [one for one in said.differences if one.kind is not Kind.HARMLESS]
    if found:
        yield f"  differs  {len(found)}, those that matter most first"
    for one in found[:SHOWN]:
        yield f"    {one.kind:<18} {one.what}: {short(one.run)}, reference {short(one.reference)} ({one.why})"
    if len(found) > SHOWN:
        yield f"    and {len(found) - SHOWN} more (--json has all)"
    harmless = len(said.differences) - len(found)
    if harmless:
        yield f"  harmless {harmless} more that do not act on the numbers (--json lists them)"
    for what in said.not_checked:
        yield f"  not checked  {what}"


def markdown(said: Parity) -> str:
    """The same with tables. Text from files is escaped."""
    by = f", decided by the {said.layer} layer" if said.layer else ""
    head = f"**{said.verdict}**{by}: {escape(said.run)} against {escape(said.reference)}. {escape(said.reason)}"
    rows = [f"| {one.layer} | {word(one)} | {escape(one.decided)} |" for one in said.layers]
    parts = [head, "\n".join(["| layer | verdict | |", "| --- | --- | --- |", *rows])]
    if said.differences:
        listed = [
            f"| {escape(one.what)} | {escape(short(one.run))} | {escape(short(one.reference))} | {one.kind} | "
            f"{escape(one.why)} |"
            for one in said.differences
        ]
        table = ["| differs | run | reference | kind | |", "| --- | --- | --- | --- | --- |", *listed]
        parts.append("\n".join(table))
    if said.not_checked:
        parts.append("Not checked: " + "; ".join(map(escape, said.not_checked)))
    return "\n\n".join(parts) + "\n"


def word(layer: LayerResult) -> str:
    """The layer's verdict, or that it was not reached."""
    return str(layer.verdict) if layer.verdict is not None else "not reached"
