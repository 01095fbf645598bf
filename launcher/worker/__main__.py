"""Entry of the worker: `worker.pyz BOX` supervises an attempt, `train BOX` is its child, `prove BOX` computes something
on its device, `probe BOX` takes a few steps and compares them, `prepare BOX` runs the script that makes the dataset,
`nursery` starts many."""

import sys


def main(argv):  # type: (list[str]) -> int
    """Run one of the six; returns the exit code."""
    if argv == ["nursery"]:
        from .nursery import nurse

        return nurse()
    if len(argv) == 2 and argv[0] == "train":
        from .training.train import train

        return train(argv[1])
    if len(argv) == 2 and argv[0] == "prove":
        from .prove import prove

        return prove(argv[1])
    if len(argv) == 2 and argv[0] == "probe":
        from .probing.probe import probe

        return probe(argv[1])
    if len(argv) == 2 and argv[0] == "prepare":
        from .data.prepare import prepare

        return prepare(argv[1])
    if len(argv) == 1:
        from .supervise import supervise

        return supervise(argv[0])
    sys.stderr.write("usage: worker.pyz [train | prove | probe | prepare] BOX | nursery\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
