"""`launch plan`: what a run would do, on one backend or on all; submits nothing."""

from __future__ import annotations

import sys

from launcher import registry
from launcher.cli import out
from launcher.cli.planning import planned, refusal, show
from launcher.cli.progress import bars
from launcher.cli.run import parser
from launcher.errors import Exit, SamerunError
from launcher.runs import create
from launcher.settings import Settings
from launcher.spec.load import load_spec


def main(argv: list[str]) -> int:
    """Run the command. Of all backends, one that can do it is enough."""
    more = "; `all` plans for each one that is installed"
    args = parser("launch plan", __doc__, backend=more).parse_args(argv)
    settings = Settings.load()
    loaded = load_spec(args.spec, args.overrides, options=lambda: registry.options(settings))
    with bars() as progress:
        data = create.look_at_data(settings, loaded.spec, progress, make=False)
    names = registry.names(settings) if args.backend == "all" else [args.backend]
    codes = []
    for name in names:
        try:
            plan = planned(settings, loaded, registry.load(name, settings), data)
        except SamerunError as error:
            if args.backend != "all":
                raise
            codes.append(Exit(out.print_error(error, as_json=args.json)))
            continue
        if args.json:
            out.emit({"backend": name, **plan.as_json()})
        else:
            if len(names) > 1:
                print(f"{name}:")
            show(plan, full=True, to=sys.stdout)
        codes.append(refusal(plan.errors) if plan.errors else Exit.OK)
    return Exit.OK if Exit.OK in codes else codes[0]
