"""What a kernel may read: which of the sources it names are real, and the folders behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.emulators.kaggle.machine.layout import Mount
from tests.emulators.kaggle.service.accounts import Account
from tests.emulators.kaggle.service.datasets import Datasets
from tests.emulators.kaggle.settings import RpcError, World

Find = Callable[[Account, str], Mount | None]


class Competitions:
    """Competitions whose rules every user has accepted: name → the folder of its files."""

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}

    def add(self, slug: str, folder: Path) -> None:
        self._folders[slug] = folder

    def get(self, slug: str) -> Path | None:
        return self._folders.get(slug)


class Sources:
    """Resolves the sources of a push. Models are not emulated: every one is invalid."""

    def __init__(self, world: World, datasets: Datasets, competitions: Competitions) -> None:
        self._world, self._datasets, self._competitions = world, datasets, competitions
        self.kernel_outputs: Callable[[Account, str, str], Path | None] = lambda *_: None

    def resolve(self, account: Account, body: Mapping[str, Any]) -> tuple[list[Mount], dict[str, list[str]]]:
        """The mounts of all that is real, and the rest by the names of the answer's fields."""
        mounts: list[Mount] = []
        invalid: dict[str, list[str]] = {}
        kinds: tuple[tuple[str, str, Find], ...] = (
            ("datasetDataSources", "invalidDatasetSources", self._dataset),
            ("kernelDataSources", "invalidKernelSources", self._kernel),
            ("competitionDataSources", "invalidCompetitionSources", self._competition),
            ("modelDataSources", "invalidModelSources", lambda *_: None),
        )
        for asked, answer, find in kinds:
            for name in body.get(asked, ()):
                mount = find(account, str(name))
                if mount is None:
                    invalid.setdefault(answer, []).append(str(name))
                else:
                    mounts.append(mount)
        return mounts, invalid

    def _dataset(self, account: Account, name: str) -> Mount | None:
        """`owner/slug`, or pinned `owner/slug/N`; only a READY version can be attached."""
        parts = name.split("/")
        if len(parts) not in (2, 3) or (len(parts) == 3 and not parts[2].isdigit()):
            return None
        try:
            dataset = self._datasets.readable(account, f"{parts[0]}/{parts[1]}")
        except RpcError:
            return None
        version = dataset.version(int(parts[2]) if len(parts) == 3 else None)
        return Mount("datasets", dataset.owner, dataset.slug, version.folder) if version is not None else None

    def _kernel(self, account: Account, name: str) -> Mount | None:
        """`owner/slug`: the outputs of its newest version that is COMPLETE."""
        owner, _, slug = name.partition("/")
        folder = self.kernel_outputs(account, owner, slug)
        return Mount("notebooks", owner, slug, folder) if folder is not None else None

    def _competition(self, _: Account, name: str) -> Mount | None:
        folder = self._competitions.get(name)
        return Mount("competitions", "", name, folder) if folder is not None else None
