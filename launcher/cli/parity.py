"""`launch parity`: is the run the same experiment as its reference?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.cli import out
from launcher.errors import Exit, NotFoundError, StorageError

if TYPE_CHECKING:
    from launcher.parity.model import Parity
    from launcher.runs.record import RunRecord
    from launcher.settings import Settings

GROUPS = ("data", "initial-weights", "trainer", "versions", "files", "arguments")
"""launcher.parity.inputs.layer has them, and is not imported for `--help`."""


def main(argv: list[str]) -> int:
    """Run the command."""
    args = _parse(argv)
    from launcher.analysis import load_run
    from launcher.report.parity import files
    from launcher.report.write import home
    from launcher.settings import Settings

    settings = Settings.load()
    run = load_run(args.run, settings)
    if run.where.resolve() == load_run(args.against[0], settings).where.resolve():
        raise NotFoundError(
            f"{args.run} and {args.against[0]} are the same run", remedy="name another as its reference"
        )
    said = check(
        settings,
        args.run,
        args.against,
        margin=args.margin,
        validate=args.validate,
        assume=args.assume,
        last_epochs=args.last_epochs,
    )
    folder = args.out or home(run)
    try:
        written = files.write(said, folder, args.pictures)
    except StorageError as error:
        raise StorageError(error.message, remedy="choose another folder with --out, or free this one") from error
    if args.json:
        out.emit({**said.as_json(), "files": [str(file) for file in written]})
    else:
        tell(said)
        print(f"  {written[0]}")
        if written[1:]:
            print(f"  {written[1].parent}/ ({len(written) - 1} pictures)")
    return exit_of(said)


def check(
    settings: Settings,
    run: str,
    against: list[str],
    *,
    margin: Any = None,
    validate: bool = True,
    assume: tuple[str, ...] | list[str] = (),
    last_epochs: int | None = None,
) -> Parity:
    """The verdict on a run, with what its spec says where the command says nothing. `against`: the reference, and more
    seeds of it; without seeds those in the store are taken."""
    from launcher.parity import compare

    section = _section(settings, run)
    reference, *seeds = against
    return compare(
        run,
        reference,
        seeds or None,
        margin=margin if margin is not None else section.get("margin"),
        last_epochs=last_epochs or section.get("last_epochs") or 3,
        assume=assume,
        validate=validate,
        settings=settings,
    )


def after(settings: Settings, record: RunRecord, folder: Path) -> tuple[dict[str, Any], Exit]:
    """The verdict on a run that has just ended verified, written beside it: what the result object says of it, and the
    exit code. Whatever keeps it from being made is said, and is no success."""
    from launcher.errors import SamerunError
    from launcher.report.parity import files

    assert record.against is not None
    try:
        said = check(settings, str(folder), [record.against])
        written = files.write(said, folder)
    except (SamerunError, ValueError) as error:
        message = error.message if isinstance(error, SamerunError) else str(error)
        out.say(f"  parity   not known: {message}. `launch parity {record.id} {record.against}` tries again")
        code = error.exit_code if isinstance(error, SamerunError) else Exit.USAGE
        return {"verdict": None, "reference": record.against, "reason": message}, code
    tell(said, sys.stderr)
    found = said.as_json()
    kept = {name: found[name] for name in ("verdict", "layer", "reason", "reference", "references", "not_checked")}
    return {**kept, "file": str(written[0])}, exit_of(said)


def tell(said: Parity, to: Any = None) -> None:
    """Print the verdict."""
    from launcher.parity.words import lines

    head, *rest = lines(said)
    colour = {"different": "1;31", "inconclusive": "1;33"}.get(str(said.verdict), "1;32")
    verdict, _, text = head.partition("  ")
    out.say(f"{out.paint(verdict, colour, to or sys.stdout)}  {text}", to or sys.stdout)
    for line in rest:
        out.say(line, to or sys.stdout)


def exit_of(said: Parity) -> Exit:
    """6 for different; a verdict that shows nothing is no failure."""
    return Exit.DIFFERENT if said.verdict == "different" else Exit.OK


def _section(settings: Settings, run: str) -> dict[str, Any]:
    """The `parity` section of the spec that the run was started from; empty for runs that are not ours."""
    from launcher.errors import SamerunError
    from launcher.runs.store import open_run

    try:
        return dict(open_run(settings, run)[2].parity)
    except (SamerunError, OSError, ValueError):
        return {}


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch parity",
        description=__doc__,
        epilog="RUN, REF and SEED: an id, its beginning, a name, a folder of samerun or Ultralytics, or a results.csv. "
        "Exit code 6: the run is different.",
    )
    parser.add_argument("run", metavar="RUN", help="the run")
    parser.add_argument(
        "against",
        metavar="REF",
        nargs="+",
        help="its reference; more: other seeds of the reference "
        "(default: the verified runs here that are it in all but the seed)",
    )
    parser.add_argument(
        "--margin",
        type=_margin,
        action="append",
        metavar="[METRIC=]NUMBER",
        help="largest difference that counts as none, e.g. 0.02 or mAP50=0.01 (default: the spec's)",
    )
    parser.add_argument("--last-epochs", type=_count, metavar="N", help="epochs at the end whose mean is compared")
    parser.add_argument(
        "--assume",
        action="append",
        default=[],
        choices=GROUPS,
        help="vouch for what is not known of a folder that launch did not make; again for more",
    )
    parser.add_argument(
        "--no-validate",
        dest="validate",
        action="store_false",
        help="do not validate best.pt again here: without it nothing is claimed of unequal weights",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write there; default: into the run")
    parser.add_argument("--pictures", choices=("svg", "png"), default="svg", help="kind of the pictures (default: svg)")
    parser.add_argument("--json", action="store_true", help="the verdict as one JSON line on stdout")
    args = parser.parse_args(argv)
    args.margin = _merged(parser, args.margin)
    return args


def _margin(text: str) -> tuple[str, float]:
    name, equals, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1 or (equals and not name):
        raise argparse.ArgumentTypeError(f"{text!r} is not a margin: a number above 0, at most 1, or METRIC=number")
    return name, value


def _merged(parser: argparse.ArgumentParser, given: list[tuple[str, float]] | None) -> float | dict[str, float] | None:
    if not given:
        return None
    if any(not name for name, _ in given):
        if len(given) > 1:
            parser.error("--margin: one number for all metrics, or METRIC=number for each")
        return given[0][1]
    from launcher.parity.curves.layer import SHORT

    unknown = [name for name, _ in given if name not in SHORT]
    if unknown:
        parser.error(f"--margin: there is no metric {unknown[0]!r}; known: {', '.join(SHORT)}")
    return dict(given)


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of epochs")
    return int(text)
