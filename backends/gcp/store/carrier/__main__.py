"""Entry of carrier.pyz: `blobs BOX CONFIG|-` lays a box out, `data BOX` brings its dataset, `carry BOX` its results."""

import json
import sys


def main(argv):  # type: (list[str]) -> int
    """Run one of the three; returns the exit code."""
    from .box import Box
    from .objects import StoreError

    try:
        if len(argv) == 3 and argv[0] == "blobs":
            from .inputs import lay_out

            with sys.stdin.buffer if argv[2] == "-" else open(argv[2], "rb") as stream:
                lay_out(argv[1], json.loads(stream.read()))
            return 0
        if len(argv) == 2 and argv[0] == "data":
            from .inputs import bring

            bring(Box(argv[1]))
            return 0
        if len(argv) == 2 and argv[0] == "carry":
            from .carry import start

            return start(argv[1])
    except (StoreError, OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"carrier: {argv[0]}: {type(error).__name__}: {error}\n")
        return 1
    sys.stderr.write("usage: carrier.pyz blobs BOX CONFIG | data BOX | carry BOX\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
