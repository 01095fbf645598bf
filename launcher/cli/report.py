"""`launch report`: what the numbers of a run really say, as a page and as Markdown."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cli import out
from launcher.errors import Exit, StorageError

if TYPE_CHECKING:
    from launcher.analysis.model import Analysis, RunView

LANDMARK = "report-charts"
"""The folder for `--charts`, beside the report."""
FORM = 1
"""Of the `--json`: counted up when something in it gets another name or meaning."""
POSITIVES_OF = frozenset({"data", "split", "classes"})
"""What the labelled boxes of a validation depend on."""


def main(argv: list[str]) -> int:
    """Run the command."""
    args = _parse(argv)
    from launcher.analysis import analyse, load_run
    from launcher.report.write import home, write
    from launcher.settings import Settings

    settings = Settings.load()
    run = load_run(args.run, settings, positives=args.positives)
    references = [load_run(one, settings) for one in args.against]
    if args.positives is not None:
        references = [_counted(one, run, args.positives) for one in references]
    said = analyse(run, against=references)
    folder = args.out or home(run)
    try:
        written = write(said, folder)
        charts = _charts(said, folder.absolute() / LANDMARK, args.charts) if args.charts else []
    except StorageError as error:
        raise StorageError(error.message, remedy="choose another folder with --out, or free this one") from error
    if args.json:
        files = {"html": str(written.html), "markdown": str(written.markdown), "charts": [str(one) for one in charts]}
        out.emit({"version": FORM, "run": run.id, **files, "analysis": said.as_json()})
    else:
        _tell(said, [written.html, written.markdown, *charts])
    if args.open:
        _open(written.html)
    return Exit.OK


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch report",
        description=__doc__,
        epilog="RUN and REF: an id, its beginning, a name, a folder of samerun or Ultralytics, or a results.csv.",
    )
    parser.add_argument("run", metavar="RUN", help="the run to report on")
    parser.add_argument(
        "--against",
        metavar="REF",
        action="append",
        default=[],
        help="compare with this run; again for more of them (changes are against the first)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write there; default: into the run, or beside results.csv"
    )
    parser.add_argument("--charts", choices=("svg", "png"), help=f"draw each chart as a file, too, in {LANDMARK}/")
    parser.add_argument(
        "--positives",
        type=_count,
        metavar="N",
        help="labelled boxes of the validation set, where no count is known; also for a REF of the same data",
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--json", action="store_true", help="files and the whole analysis as one JSON line on stdout")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of boxes")
    return int(text)


def _counted(reference: RunView, run: RunView, positives: int) -> RunView:
    """The reference with the count of the run's boxes, where it has none and was validated on the same ones.

    Without a configuration, or where neither fingerprint nor path tells the data, that is not known.
    """
    from dataclasses import replace

    from launcher.analysis.changes import differences

    if reference.positives is not None:
        return reference
    pair = (run, reference)
    prints = all(one.data.get("fingerprint") for one in pair)
    paths = all(one.data.get("root") or one.data.get("yaml") for one in pair)
    known = (prints or paths) and all(one.config.values or one.config.effective for one in pair)
    same = known and not any(one.name in POSITIVES_OF for one in differences(pair))
    if same:
        return replace(reference, positives=positives)
    out.say(f"  --positives is not used for {reference.id}: that it was validated on the same boxes is not known")
    return reference


def _charts(said: Analysis, folder: Path, kind: str) -> list[Path]:
    """Still pictures of all charts."""
    from launcher.files import storage, write_atomic
    from launcher.report import charts

    made = []
    with storage("drawing the charts", folder):
        folder.mkdir(parents=True, exist_ok=True)
        for chart in charts(said):
            made.append(folder / f"{chart.code}.{kind}")
            write_atomic(made[-1], chart.svg().encode() if kind == "svg" else chart.png())
    return made


def _tell(said: Analysis, files: list[Path]) -> None:
    import sys

    from launcher.report.charts import unique

    head = said.summary
    name, *others = unique([said.run, *said.references])
    asked = f" of {head.epochs_asked}" if head.epochs_asked else ""
    ended = [f"{other} ({view.status})" for other, view in zip(others, said.references, strict=True)]
    against = f", against {', '.join(ended[:3])}{f' and {len(ended) - 3} more' * (len(ended) > 3)}" if ended else ""
    print(f"{name}: {head.status}, {head.epochs_done}{asked} epoch{'s' * (head.epochs_done != 1)}{against}")
    out.print_findings(said.key, full=False, to=sys.stdout)
    for file in files:
        print(f"  {file}")


def _open(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.as_uri()):
        out.say(f"  no browser could be started: open {page}")
