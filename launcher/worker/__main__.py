"""Entry of the worker: `worker.pyz BOX` supervises an attempt; `train BOX` and `manifest BOX` are its children."""

import sys


def main(argv):  # type: (list[str]) -> int
    """Run one of the three; returns the exit code."""
    if len(argv) == 2 and argv[0] == "train":
        from .train import train

        return train(argv[1])
    if len(argv) == 1:
        from .supervise import supervise

        return supervise(argv[0])
    sys.stderr.write("usage: worker.pyz [train] BOX\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
