"""Reads a YOLO detection dataset: which images are in which split, and where the label of each lies.

Promises: `read` sees the files that Ultralytics 8.4.190 would see, in its order (ultralytics/data/utils.py,
check_det_dataset and img2label_paths; ultralytics/data/base.py, get_img_files), or raises FaultyError with every reason
why not. It opens no image and no label, downloads nothing and runs nothing that data.yaml says. All paths in a Dataset
are relative to its root, so that it can travel. One deliberate difference: Ultralytics takes a relative `path:` from
the current folder; here it is relative to data.yaml, and a note says so where the two differ.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

IMAGE_SUFFIXES = frozenset(
    {"avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp"}
)
"""Ultralytics 8.4.190, data/utils.py, IMG_FORMATS."""
SPLITS = ("train", "val", "test")
YAML_BYTES = 4 << 20
"""A data.yaml larger than this is something else: even 20,000 class names fit into 1 MiB."""
LIST_BYTES = 256 << 20
"""The same for a list of images: two million paths."""
SHOWN = 20
"""Faults of one kind that are listed before `and N more`."""
SOURCE = "https://docs.ultralytics.com/datasets/detect/"


class Fault(NamedTuple):
    """One thing that is wrong: with which file and field, in which line (from 1), and what to do about it."""

    message: str
    file: str | None = None
    line: int | None = None
    field: str | None = None
    remedy: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        words = [f"{place}:" if place else "", f"{self.field}:" if self.field else "", self.message]
        return " ".join(word for word in words if word) + (f" ({self.remedy})" if self.remedy else "")


class Note(NamedTuple):
    """Something odd that is no error, under a stable code."""

    code: str
    message: str
    evidence: str
    remedy: str


class FaultyError(Exception):
    """The dataset is not one. `faults` has all the reasons that one reading can find."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in faults))


@dataclass(frozen=True)
class Item:
    """One image and its label file, both relative to the root, with `/`; label None means no such file: background."""

    image: str
    label: str | None


@dataclass(frozen=True)
class Dataset:
    """What data.yaml describes. `splits` has `train` and `val`, each with at least one image, and perhaps `test`."""

    yaml: Path
    root: Path
    """Absolute, without symbolic links."""
    names: dict[int, str]
    """Class number to name, 0 to n - 1, in order."""
    splits: dict[str, tuple[Item, ...]]
    """In Ultralytics' order: sorted by path. An image that a list names twice is there twice."""
    sources: dict[str, tuple[str, ...]]
    """The folders and lists that data.yaml names for each split, relative to the root."""
    notes: tuple[Note, ...] = ()


def read(data_yaml: Path) -> Dataset:
    """Read data.yaml and list the images. Raises FaultyError."""
    file = Path(os.path.abspath(data_yaml))  # keeps a linked data.yaml's own folder, as Ultralytics does
    values, lines = _load(file)
    return _Reader(file, values, lines).read()


def more(faults: list[Fault]) -> list[Fault]:
    """The first SHOWN faults, and one that says how many more there are."""
    if len(faults) <= SHOWN:
        return faults
    return [*faults[:SHOWN], Fault(f"and {len(faults) - SHOWN} more", file=faults[0].file)]


def _load(file: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The values of data.yaml and the line of each of its keys."""
    import yaml

    def fail(message: str, line: int | None = None, remedy: str | None = None) -> FaultyError:
        return FaultyError([Fault(message, file=str(file), line=line, remedy=remedy)])

    try:
        with file.open("rb") as stream:
            raw = stream.read(YAML_BYTES + 1)
    except FileNotFoundError:
        raise fail("there is no such file", remedy="name the dataset's data.yaml, or use `data: reef`") from None
    except OSError as error:
        raise fail(f"cannot be read: {error.strerror or error}", remedy="name a data.yaml file") from None
    if len(raw) > YAML_BYTES:
        raise fail(f"is larger than {YAML_BYTES >> 20} MiB: not a data.yaml", remedy="name the dataset's data.yaml")
    try:
        text = raw.decode("utf-8-sig")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        values = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise fail(f"is not YAML: {error.problem}", mark.line + 1 if mark else None, "mend this line") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise fail(f"is not YAML: {str(error).splitlines()[0] if str(error) else 'nested too deeply'}") from None
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        raise fail("must be a mapping with `train`, `val` and `names`", 1, f"see {SOURCE}")
    lines = {str(key.value): key.start_mark.line + 1 for key, _ in node.value}
    return {str(key): value for key, value in values.items()}, lines


class _Reader:
    """One reading of one data.yaml: gathers faults instead of stopping at the first."""

    def __init__(self, file: Path, values: dict[str, Any], lines: dict[str, int]) -> None:
        self.file, self.values, self.lines = file, values, lines
        self.faults: list[Fault] = []
        self.notes: list[Note] = []
        self.listings: dict[str, frozenset[str]] = {}

    def fault(self, field: str, message: str, remedy: str) -> None:
        line = self.lines.get(field)
        self.faults.append(Fault(message, file=str(self.file), line=line, field=field, remedy=remedy))

    def warn(self, code: str, message: str, evidence: str, remedy: str) -> None:
        self.notes.append(Note(code, message, evidence, remedy))

    def read(self) -> Dataset:
        if "val" not in self.values and "validation" in self.values:  # Ultralytics renames it as well
            self.values["val"] = self.values["validation"]
            self.lines["val"] = self.lines["validation"]
        names = self._names()
        root = self._root()
        splits: dict[str, tuple[Item, ...]] = {}
        sources: dict[str, tuple[str, ...]] = {}
        for split in SPLITS if root else ():
            found = self._split(split, root)
            if found is not None:
                sources[split], splits[split] = found
        if "download" in self.values:
            text = "`download:` is ignored: samerun downloads no data and runs no script of a dataset"
            self.warn("data-download-ignored", text, f"{self.file}:{self.lines['download']}", "nothing, if all is here")
        if self.faults or root is None:
            raise FaultyError(self.faults)
        self._overlap(splits)
        return Dataset(self.file, root, names, splits, sources, tuple(self.notes))

    # names

    def _names(self) -> dict[int, str]:
        names, nc = self.values.get("names"), self.values.get("nc")
        if nc is not None and (isinstance(nc, bool) or not _is_whole(nc) or int(float(nc)) < 1):
            self.fault("nc", f"must be a whole number of classes, is {str(nc)[:40]!r}", "write the number of `names`")
            nc = None
        elif nc is not None:
            nc = int(float(nc))
        if names is None:
            if nc is None and not any(fault.field == "nc" for fault in self.faults):
                self.fault("names", "the class names are missing", "write `names: [starfish]`")
            return {number: f"class_{number}" for number in range(min(nc or 0, 100_000))}
        if not isinstance(names, (list, dict)) or not names:
            self.fault("names", "must be a list of class names, or a mapping from number to name", "mend `names`")
            return {}
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        found: dict[int, str] = {}
        for key, name in pairs:
            if not _is_whole(key) or isinstance(name, (list, dict)) or name is None:
                self.fault("names", f"{str(key)[:40]}: {str(name)[:40]} is not a number and a name", "mend `names`")
                return {}
            found[int(key)] = str(name)
        if sorted(found) != list(range(len(names))):
            text = f"the {len(names)} classes must be numbered 0 to {len(names) - 1}"
            self.fault("names", text, "number them from 0 without a gap")
        if nc is not None and nc != len(names):
            self.fault("nc", f"is {nc}, but there are {len(names)} names", "delete `nc`: the names say it")
        return dict(sorted(found.items()))

    # root and sources

    def _root(self) -> Path | None:
        """The folder that all paths start from, or None after a fault."""
        text = self.values.get("path")
        folder = self.file.parent.resolve()
        if text is None or text == "":
            return folder
        if not isinstance(text, str):
            self.fault("path", f"must be a text, is {str(text)[:40]!r}", "write a folder, or delete `path`")
            return None
        root = folder / text
        try:
            if root.is_dir():
                if not Path(text).is_absolute() and Path(text).is_dir() and Path(text).resolve() != root.resolve():
                    self._elsewhere(text, root)
                return root.resolve()
        except (OSError, ValueError):  # a name too long, or with a NUL
            pass
        if Path(text).is_absolute() or PureWindowsPath(text).is_absolute():
            message = f"{text} is not on this machine: it looks like a path of another one"
            self.fault("path", message, "make it relative to data.yaml, or delete `path:`")
        else:
            self.fault("path", f"there is no folder {root}", "make it relative to data.yaml, or delete `path:`")
        return None

    def _elsewhere(self, text: str, root: Path) -> None:
        message = "`path:` means another folder to Ultralytics when it is started here; samerun reads data.yaml's"
        evidence = f"samerun: {root.resolve()}; Ultralytics: {Path(text).resolve()}"
        self.warn("data-path-ambiguous", message, evidence, "delete `path:`, or make it absolute")

    def _split(self, split: str, root: Path | None) -> tuple[tuple[str, ...], tuple[Item, ...]] | None:
        """The sources and items of a split; None when it is not there, which is a fault unless it is `test`."""
        value = self.values.get(split)
        if not value:
            if split != "test":
                self.fault(split, f"there is no `{split}`", f"write `{split}: images/{split}`")
            return None
        parts = value if isinstance(value, list) else [value]
        if root is None or not all(isinstance(part, str) and part for part in parts):
            self.fault(split, "must be a folder, a .txt list, or a list of these", f"write `{split}: images/{split}`")
            return None
        before = len(self.faults)
        sources, images = [], []
        for part in parts:
            source = self._source(split, part, root)
            if source is not None:
                sources.append(source.relative_to(root).as_posix())
                images += self._walk(split, source, root) if source.is_dir() else self._list(split, source, root)
        if len(self.faults) > before:
            return None
        if not sources:  # a test split that is not here
            return None
        if not images:
            hint = "put images there, or name their folder"
            self.fault(
                split, f"no image in {', '.join(sources)}", f"{hint}; suffixes: {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
            return None
        return tuple(sources), self._items(split, sorted(images), root)

    def _source(self, split: str, part: str, root: Path) -> Path | None:
        """One folder or list of a split, absolute, or None after a fault."""
        try:
            source = (root / part).resolve()
            if not source.exists() and part.startswith("../"):  # Roboflow's layout; Ultralytics does the same
                source = (root / part[3:]).resolve()
            exists = source.exists()
        except (OSError, ValueError, RuntimeError):
            exists = False
        if not exists:
            if split == "test":
                self.warn(
                    "data-test-missing", "`test` is not there and is left out", str(root / part), "delete `test:`"
                )
            else:
                self.fault(split, f"{root / part} does not exist", "correct the path, or put the images there")
            return None
        if not source.is_relative_to(root):
            self.fault(split, f"{source} is outside the dataset's folder {root}: it cannot travel",
                         "set `path:` to a folder that holds everything")  # fmt: skip
            return None
        if source.is_file() and source.suffix[1:].lower() in IMAGE_SUFFIXES:
            self.fault(split, f"{source} is an image", "name its folder, or a .txt list of images")
            return None
        return source

    def _walk(self, split: str, source: Path, root: Path) -> list[str]:
        """The images below a folder, relative to the root. Names that start with a dot are hidden, as in a glob."""
        found: list[str] = []
        skip = len(str(root).rstrip(os.sep)) + 1
        todo: list[tuple[str, tuple[str, ...]]] = [(str(source), (os.path.realpath(source),))]
        while todo:
            folder, above = todo.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.name.startswith("."):
                            continue
                        if entry.is_dir():
                            real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                            if real in above:
                                text = f"{entry.path} links to a folder above it: Ultralytics would go round for ever"
                                self.fault(split, text, "remove the link")
                            else:
                                todo.append((entry.path, (*above, real)))
                        elif entry.name.rpartition(".")[2].lower() in IMAGE_SUFFIXES and "." in entry.name:
                            found.append(entry.path[skip:])
            except OSError as error:
                self.fault(split, f"{folder}: {error.strerror}", "make it readable")
        return [name.replace(os.sep, "/") for name in found]

    def _list(self, split: str, source: Path, root: Path) -> list[str]:
        """The images that a .txt list names, relative to the root."""
        try:
            if source.stat().st_size > LIST_BYTES:
                self.fault(split, f"{source} is larger than {LIST_BYTES >> 20} MiB", "name a list of images")
                return []
            rows = source.read_text(encoding="utf-8-sig").strip().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            self.fault(split, f"{source} is not a list of images: {error}", "name a folder, or a text file")
            return []
        found: list[str] = []
        wrong: list[Fault] = []
        for number, row in enumerate(rows, start=1):
            if row.rpartition(".")[2].lower() not in IMAGE_SUFFIXES:
                continue
            reason = ""
            path = Path(os.path.normpath(source.parent / row))
            if not row.startswith("./") and not Path(row).is_absolute():
                reason = f"{row}: relative to the folder that Ultralytics is started in, not to this list"
            elif not path.is_relative_to(root):
                reason = f"{row} is outside the dataset's folder {root}: it cannot travel"
            elif path.name not in self._names_in(path.parent):
                reason = f"{row} does not exist"
            if reason:
                wrong.append(Fault(reason, str(source), number, field=split, remedy="start it with ./ beside the list"))
            else:
                found.append(path.relative_to(root).as_posix())
        self.faults += more(wrong)
        return found

    # labels

    def _items(self, split: str, images: list[str], root: Path) -> tuple[Item, ...]:
        """Each image with its label: the last /images/ of its path becomes /labels/, its suffix .txt."""
        items = []
        prefix = str(root).rstrip(os.sep).replace(os.sep, "/") + "/"
        for image in images:
            full = f"/{image}"
            if "/images/" not in full and "/images/" in prefix:
                text = f"Ultralytics would look for the labels outside {root}, because that path holds /images/"
                self.fault(split, text, "set `path:` to the folder that holds images/ and labels/")
                return ()
            label = "/labels/".join(full.rsplit("/images/", 1)).rpartition(".")[0][1:] + ".txt"
            folder, _, name = label.rpartition("/")
            items.append(Item(image, label if name in self._names_in(root / folder) else None))
        if split != "test" and all(item.label is None for item in items):
            folder = ("/labels/".join(f"/{images[0]}".rsplit("/images/", 1)))[1:].rpartition("/")[0]
            text = f"not one of the {len(items)} images has a label file; the first is looked for in {root / folder}"
            self.fault(split, text, "put the labels there; a background image may have an empty file, or none")
        return tuple(items)

    def _names_in(self, folder: Path) -> frozenset[str]:
        """The names of the files in a folder, read once."""
        key = str(folder)
        if key not in self.listings:
            try:
                with os.scandir(key) as entries:
                    self.listings[key] = frozenset(entry.name for entry in entries if entry.is_file())
            except OSError:
                self.listings[key] = frozenset()
        return self.listings[key]

    def _overlap(self, splits: dict[str, tuple[Item, ...]]) -> None:
        seen = {item.image for item in splits["train"]}
        for split in ("val", "test"):
            both = [item.image for item in splits.get(split, ()) if item.image in seen]
            if both:
                text = f"{len(both)} images are in `train` and in `{split}`: the scores will be too good"
                self.warn("data-split-overlap", text, ", ".join(both[:3]), "split by video")


def _is_whole(value: object) -> bool:
    try:
        return float(str(value)) == int(float(str(value)))
    except (ValueError, OverflowError):
        return False
