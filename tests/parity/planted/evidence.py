"""What the layers read of the suite's runs, in one small file, and run folders made of it again.

Weights are not kept: a checkpoint becomes an archive of the same layout whose only tensor is the digest of all tensors
that were in it, with the plain values that Ultralytics keeps beside them. Equal weights stay equal, others other. The
sha256 of the file is another one then, and is put in its place wherever it was written down.
"""

from __future__ import annotations

import io
import json
import lzma
import pickle
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.analysis import load_run
from launcher.files import sha256_file
from launcher.parity.inputs.checkpoint import facts, numbers, state_digest
from launcher.parity.weights import validating
from launcher.settings import Settings

RECORDED = Path(__file__).parent / "evidence.json.xz"
TEXTS = (
    "run.json", "events.jsonl", "manifest.json", "spec.yaml", "train/args.yaml", "train/results.csv", validating.NAME,
)  # fmt: skip
WEIGHTS = ("train/weights/best.pt", "train/weights/last.pt")
PLACE = "/lab"
"""What the lab's folder is called in the recording."""


def record(runs: Iterable[Path], probes: Mapping[str, Any], lab: Path, to: Path = RECORDED) -> None:
    """Write down what the layers read."""
    held = {folder.name: _read(folder, str(lab)) for folder in sorted(runs)}
    text = json.dumps({"runs": held, "probes": probes}, sort_keys=True)
    to.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def lay(runs_dir: Path, recorded: Path = RECORDED) -> dict[str, Any]:
    """Make the run folders again below `runs_dir`; returns the probes' records by the name of the fault."""
    held = json.loads(lzma.decompress(recorded.read_bytes()))
    for name, files in held["runs"].items():
        _lay(runs_dir / name, files)
    probes: dict[str, Any] = held["probes"]
    return probes


def _read(folder: Path, lab: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: (folder / name).read_text().replace(lab, PLACE) for name in TEXTS if (folder / name).is_file()
    }
    for name in WEIGHTS:
        file = folder / name
        if file.is_file():
            plain = {**facts(file), **numbers(file)}
            plain = json.loads(json.dumps(plain, default=str).replace(lab, PLACE))
            found[name] = {"state": state_digest(file), "sha256": sha256_file(file), "plain": plain}
    return found


def _lay(folder: Path, files: Mapping[str, Any]) -> None:
    digests: dict[str, str] = {}
    for name in WEIGHTS:
        if name in files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(checkpoint(files[name]["state"], files[name]["plain"]))
            digests[files[name]["sha256"]] = sha256_file(target)
    for name in TEXTS:
        if name in files:
            text = files[name]
            for old, new in digests.items():
                text = text.replace(old, new)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    _rekey(folder)


def checkpoint(state: str, plain: Mapping[str, Any]) -> bytes:
    """An archive as torch.save writes it, with one tensor whose bytes are this text."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in (("data.pkl", pickle.dumps(dict(plain), protocol=2)), ("data/0", state.encode())):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)
    return out.getvalue()


def _rekey(folder: Path) -> None:
    """The validation that is kept is of these weights now."""
    file = folder / validating.NAME
    if file.is_file() and (folder / WEIGHTS[0]).is_file():
        view = load_run(folder, replace(Settings.load({}), runs_dir=folder.parent))
        key = validating.key_of(sha256_file(folder / WEIGHTS[0]), view)
        file.write_text(json.dumps({**json.loads(file.read_text()), "key": key}))


def copied(source: Path, to: Path, *, foreign: bool) -> None:
    """A run folder, or of it only what Ultralytics itself leaves."""
    shutil.copytree(source / "train" if foreign else source, to)
