"""The entry of `launch`: finds the command, imports only that, and turns errors into exit codes.

`--help` and `--version` import nothing but this file: they have to answer at once.
"""

from __future__ import annotations

import sys

from launcher import __version__

TYPE_CHECKING = False  # `typing` takes longer to import than `--help` to answer
if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED = 130  # launcher.errors.Exit, which is not imported for it

COMMANDS = {
    "run": "train: plan, submit, follow, sync, verify (`launch SPEC` is short for it)",
    "plan": "what a run would do: findings, estimate; submits nothing",
    "probe": "a minute on a machine: does it compute the same? before any long run",
    "ps": "list runs",
    "show": "everything about one run",
    "logs": "what a run's worker printed; -f follows",
    "attach": "follow a run again, and go on with it where it was left",
    "fetch": "bring back what a run has made so far, and verify it",
    "cancel": "stop a run and keep what it has made",
    "resume": "go on with a run that ended early, from its last checkpoint",
    "report": "what a run's numbers really say: a page, Markdown, charts; --against REF compares",
    "compare": "several runs side by side",
    "parity": "is a run the same experiment as its reference? One verdict, and why",
    "reference": "repeat a spec with other seeds: how far seeds alone move its metrics",
    "reap": "find what attempts have left on machines, and remove it",
    "doctor": "check this machine and a backend: versions, disk, credentials",
    "schema": "write the JSON schema of a spec, for editors",
}

HELP = """\
usage: launch SPEC [--backend NAME] [--set FIELD=VALUE]... [--new] [--detach] [--logs] [--dry-run] [--json]
              [--against RUN]
       launch COMMAND [ARGUMENTS]

One job spec, one Ultralytics YOLO training run, any machine; what comes back is verified.

commands:
{commands}

`launch COMMAND --help` tells more of each. A RUN is an id, the beginning of one, a name (its newest run) or a folder.

exit codes: 0 done and verified, 1 the training failed, 2 spec or usage, 3 credentials or quota, 4 no capacity,
            5 integrity, 6 parity says different, 7 unknown at the deadline, 8 something is left on a machine
            (`launch reap`), 130 interrupted here (the run goes on)
"""


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code. Errors of ours are printed, not raised."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {name:<9} {text}" for name, text in COMMANDS.items())), end="")
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"samerun {__version__}")
        return 0
    name, rest = (argv[0], argv[1:]) if argv[0] in COMMANDS else ("run", argv)
    if name == "run" and argv[0] != "run" and _no_spec(argv[0]):
        return 2
    return _dispatch(name, rest)


def _no_spec(first: str) -> bool:
    """A word that is neither a command nor a file: say so before anything is imported."""
    import os.path

    if first.startswith("-") or os.path.exists(first) or first.endswith((".yaml", ".yml")):  # noqa: PTH110
        return False
    import difflib

    near = difflib.get_close_matches(first, COMMANDS, n=1)
    hint = f"did you mean `launch {near[0]}`?" if near else "`launch --help` lists the commands"
    print(f"launch: {first!r} is neither a command nor a spec file; {hint}", file=sys.stderr)
    return True


def _dispatch(name: str, rest: list[str]) -> int:
    import gc
    import importlib

    gc.disable()  # imports make no garbage, and collecting it took a seventh of their time; `follow` turns it on again
    from launcher.errors import SamerunError

    module = importlib.import_module(f"launcher.cli.{name}")
    wants_json = "--json" in rest
    try:
        return int(module.main(rest))
    except SamerunError as error:
        from launcher.cli.out import print_error

        return print_error(error, as_json=wants_json)


def entry() -> None:
    """The console script. Interrupted at any time, or with no one left to read its output, it ends with 130."""
    try:
        try:
            code: str | int | None = main(sys.argv[1:])
        except SystemExit as ended:  # argparse, after --help or a mistake
            code = ended.code
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
        _quietly(lambda: print("\nlaunch: interrupted", file=sys.stderr, flush=True))
    except BrokenPipeError:
        code = INTERRUPTED
    for stream in (sys.stdout, sys.stderr):
        _quietly(stream.flush, stream.fileno)
    sys.exit(code)


def _quietly(write: Callable[[], object], number: Callable[[], int] = lambda: 2) -> None:
    """Write; where no one reads any more, send what is left, and what Python flushes at exit, nowhere."""
    import os

    try:
        write()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number())
        os.close(nowhere)
