"""A YOLO detection dataset on this machine.

How it is read is the worker's (`launcher.worker.data.dataset`), which also reads datasets that are attached where it
runs; here its faults become Problems and its notes Findings.
"""

from __future__ import annotations

from pathlib import Path

from launcher.errors import DataError, Problem
from launcher.finding import Finding, Severity
from launcher.worker.data import dataset as reading
from launcher.worker.data.dataset import IMAGE_SUFFIXES, SHOWN, SOURCE, Item

__all__ = ["IMAGE_SUFFIXES", "SOURCE", "Dataset", "Item", "more", "read_dataset"]


class Dataset(reading.Dataset):
    """What data.yaml describes, all paths relative to its root."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is odd and yet no error."""
        return tuple(Finding(note.code, Severity.WARNING, *note[1:], SOURCE) for note in self.notes)


def read_dataset(data_yaml: Path) -> Dataset:
    """Read data.yaml and list the images. Raises DataError with all the problems that one reading can find."""
    try:
        return Dataset(**vars(reading.read(data_yaml)))
    except reading.FaultyError as error:
        raise DataError([Problem(**fault._asdict()) for fault in error.faults]) from None


def more(problems: list[Problem]) -> list[Problem]:
    """The first SHOWN problems, and one that says how many more there are."""
    if len(problems) <= SHOWN:
        return problems
    return [*problems[:SHOWN], Problem(f"and {len(problems) - SHOWN} more", file=problems[0].file)]
