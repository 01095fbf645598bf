"""`launch reap`: find what attempts have left on machines, and remove it. Without --yes it only says what is there."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from launcher import registry
from launcher.backend import Backend
from launcher.cli import out
from launcher.errors import Exit, SamerunError
from launcher.runs import reap
from launcher.runs.reap import Held, Verdict
from launcher.runs.store import Store
from launcher.settings import Settings

MARKS = {Verdict.LIVE: "·", Verdict.KEEPS: "!", Verdict.STRANGE: "!", Verdict.LEFT: "✗"}


@dataclass
class _Seen:
    """What one command has come upon. `error` is the exit code of a backend that could not be asked."""

    left: int = 0
    error: Exit | None = None


def main(argv: list[str]) -> int:
    """Run the command. Exit 8 while something is left that nobody needs, or could not be removed."""
    parser = argparse.ArgumentParser(prog="launch reap", description=__doc__)
    parser.add_argument("--backend", help="this backend; default: all that are installed")
    parser.add_argument("--yes", action="store_true", help="remove what nobody needs any more")
    parser.add_argument("--strange", action="store_true", help="also attempts of runs that are not in this folder")
    parser.add_argument("--data", action="store_true", help="also datasets that are kept for runs to come")
    parser.add_argument("--json", action="store_true", help="one JSON line for each on stdout")
    args = parser.parse_args(argv)
    settings = Settings.load()
    store = Store(settings.runs_dir)
    seen = _Seen()
    for name in [args.backend] if args.backend else registry.names(settings):
        try:
            backend = registry.load(name, settings)
            for line in _backend(settings, store, backend, args, seen):
                if args.json:
                    out.emit({"backend": name, **line})
        except SamerunError as error:
            out.say(f"{name}: could not be asked: {error.message}")
            if args.backend:
                out.say(f"  {error.remedy}" if error.remedy else "")
            seen.error = error.exit_code if args.backend or not _no_access(error) else seen.error
    if seen.left and not args.yes:
        out.say("launch reap --yes removes what is marked ✗")
    return seen.error or (Exit.LEFT_OVER if seen.left else Exit.OK)


def _no_access(error: SamerunError) -> bool:
    """Nobody has an account everywhere: what cannot be got into holds nothing of ours."""
    return error.exit_code is Exit.ACCESS


def _backend(
    settings: Settings, store: Store, backend: Backend[Any], args: argparse.Namespace, seen: _Seen
) -> Iterator[dict[str, Any]]:
    """Go through one backend; yields what it says of each, for scripts."""
    held = reap.look_through(store, backend)
    out.say(f"{backend.name}: {len(held)} attempt(s) held")
    gone: list[Held] = []
    for each in held:
        unneeded = each.verdict is Verdict.LEFT or (args.strange and each.verdict is Verdict.STRANGE)
        left = reap.remove(settings, store, backend, each) if unneeded and args.yes else None
        said = "removed" if left == [] else each.reason
        out.say(f"  {MARKS[each.verdict]} {each.handle.attempt}  {each.state}, {each.verdict}: {said}")
        for line in left or ():
            out.say(f"      left over: {line}")
        seen.left += bool(left) or (unneeded and left is None)
        gone += [each] if left == [] else []
        yield {
            "attempt": each.handle.attempt,
            "state": each.state,
            "verdict": each.verdict,
            "reason": each.reason,
            "removed": left == [],
            "left_over": left or [],
        }
    yield from _stored(backend, [each for each in held if each not in gone], args, seen)


def _stored(backend: Backend[Any], held: list[Held], args: argparse.Namespace, seen: _Seen) -> Iterator[dict[str, Any]]:
    if not (args.data and args.yes):
        for stored in backend.stored():
            size = f", {out.size(stored.size)}" if stored.size is not None else ""
            out.say(f"  · {stored.what}{size}: kept for runs to come (--data --yes removes it)")
            yield {"stored": stored.key, "bytes": stored.size, "removed": False, "left_over": []}
        return
    for stored, left in reap.discard(backend, held):
        out.say(f"  · {stored.what}: {'removed' if not left else 'kept'}")
        for line in left:
            out.say(f"      left over: {line}")
        seen.left += bool(left)
        yield {"stored": stored.key, "bytes": stored.size, "removed": not left, "left_over": left}
