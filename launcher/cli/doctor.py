"""`launch doctor`: check this machine and a backend: versions, disk, credentials, what is left over."""

from __future__ import annotations

import argparse
import contextlib
import platform
import shutil
import sys

from launcher import __version__, registry
from launcher.cli import out
from launcher.errors import Exit, NotFoundError, SamerunError
from launcher.finding import Finding, Severity
from launcher.installed import installed
from launcher.settings import Settings

DEFAULT = "local"


def main(argv: list[str]) -> int:
    """Run the command. Exit 3 when a finding is an error; of a backend only when that one was asked for."""
    parser = argparse.ArgumentParser(prog="launch doctor", description=__doc__)
    parser.add_argument("--backend", help="this backend; default: all that are installed")
    parser.add_argument("--json", action="store_true", help="one JSON line a finding on stdout")
    args = parser.parse_args(argv)
    settings = Settings.load()
    names = [args.backend] if args.backend else registry.names(settings)
    found = [("samerun", finding) for finding in _here(settings)]
    for name in names:
        try:
            backend = registry.load(name, settings)
        except NotFoundError as error:  # its client is not installed: nothing that others need to hear as an error
            if args.backend:
                raise
            found.append(
                (name, Finding(f"{name}.unusable", Severity.WARNING, error.message, remedy=error.remedy or ""))
            )
            continue
        found += [(name, finding) for finding in backend.check()]
        lacks = [f"{feature}: {reason}" for feature, reason in backend.lacks.items()]
        found += [(name, Finding(f"{name}.lacks", Severity.INFO, text)) for text in lacks]
        with contextlib.suppress(SamerunError):  # what is wrong with the access has been said
            if owned := backend.owned():
                text = f"holds {len(owned)} attempt(s): {', '.join(handle.attempt for handle in owned[:5])}"
                remedy = "`launch reap` says which of them nobody needs any more"
                found.append((name, Finding(f"{name}.owned", Severity.INFO, text, remedy=remedy)))
    if args.json:
        for name, finding in found:
            out.emit({"backend": name, **finding.as_json()})
    else:
        for name in ("samerun", *names):
            out.say(name)
            out.print_findings(finding for owner, finding in found if owner == name)
    counted = ("samerun", args.backend or DEFAULT)  # not everybody has an account everywhere
    wrong = any(finding.severity is Severity.ERROR for name, finding in found if name in counted)
    return Exit.ACCESS if wrong else Exit.OK


def _here(settings: Settings) -> list[Finding]:
    versions = installed(settings).versions
    python = f"Python {platform.python_version()} at {sys.executable}"
    with_ = ", ".join(f"{name} {version}" for name, version in versions.items())
    found = [
        Finding("samerun.version", Severity.INFO, f"samerun {__version__}, {python}"),
        Finding("samerun.packages", Severity.INFO, with_),
        Finding("samerun.runs-dir", Severity.INFO, f"runs in {settings.runs_dir}, cache in {settings.cache_dir}"),
    ]
    for name in ("ultralytics", "torch"):
        if name not in versions:
            remedy = "install samerun with its dependencies (`uv sync`)"
            found.append(Finding(f"samerun.no-{name}", Severity.ERROR, f"{name} is not installed", remedy=remedy))
    folder = next(path for path in (settings.cache_dir, *settings.cache_dir.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    found.append(Finding("samerun.disk", Severity.INFO, f"{out.size(free)} free at {folder}"))
    return found
