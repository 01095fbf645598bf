"""`launch schema`: the JSON schema of a spec, so that editors complete and check it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from launcher import registry
from launcher.cli import out
from launcher.errors import Exit
from launcher.files import storage, write_atomic
from launcher.settings import Settings
from launcher.spec.arguments import Arguments
from launcher.spec.schema import json_schema


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="launch schema", description=__doc__)
    parser.add_argument("--output", "-o", type=Path, help="write it there instead of to stdout")
    args = parser.parse_args(argv)
    text = json.dumps(json_schema(Arguments(), registry.options(Settings.load())), indent=2) + "\n"
    if args.output is None:
        print(text, end="")
        return Exit.OK
    with storage("writing the schema"):
        write_atomic(args.output.absolute(), text.encode())
    out.say(f"  {args.output}: put `# yaml-language-server: $schema={args.output}` at the top of a spec")
    return Exit.OK
