"""What a kernel does before it trains, one process a step: `steps.py install BOX`, `steps.py attach BOX`.

Both print what they do into the stream, and end with a reason when they cannot.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

KEPT = (
    "torch",
    "torchvision",
    "torchaudio",
    "numpy",
    "opencv-python",
    "opencv-contrib-python",
    "opencv-python-headless",
)
"""The image's own: made for its CUDA, and imported by whatever else is there. pip is told to leave them alone."""
CHUNK = 1 << 20


class StepError(Exception):
    """Why the attempt cannot go on, and what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


def install(box: str, plan: dict) -> None:  # type: ignore[type-arg]
    """Have the pinned Ultralytics, and what it needs and is not there; the image's torch stays."""
    wanted = plan["ultralytics"]
    before = {name: version for name in KEPT if (version := version_of(name)) is not None}
    if wanted in ("", version_of("ultralytics")):
        return
    constraints = os.path.join(box, "work", "constraints.txt")
    with open(constraints, "w", encoding="utf-8") as stream:
        stream.writelines(f"{name}=={version}\n" for name, version in before.items())
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--constraint", constraints, f"ultralytics=={wanted}"]
    if not plan["internet"]:
        wheels = list(found(lambda name: name.endswith(".whl")))
        folders = sorted({os.path.dirname(path) for path in wheels})
        if not any(os.path.basename(path).startswith("ultralytics-") for path in wheels):
            raise StepError(
                "internet is off in this kernel, and no wheel of ultralytics is attached",
                "attach a dataset of wheels (resources.wheels), or leave resources.internet on",
            )
        command += ["--no-index", *(f"--find-links={folder}" for folder in folders)]
    print(f"installing ultralytics {wanted}, without touching {', '.join(before) or 'anything'}", flush=True)
    if code := subprocess.call(command):
        remedy = "see what pip said above; internet in a kernel needs an account with a verified phone number"
        raise StepError(f"pip ended with exit code {code}: ultralytics {wanted} could not be installed", remedy)
    after = {name: version_of(name) for name in before}
    if after != before or version_of("ultralytics") != wanted:
        changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
        raise StepError(f"the image is not what it was after installing: {changed}", "report it: pip was told not to")


def version_of(name: str) -> str | None:
    """The installed version, looked up anew: this process may have installed it."""
    import importlib
    import importlib.metadata

    importlib.invalidate_caches()
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def attach(box: str, plan: dict) -> None:  # type: ignore[type-arg]
    """Find what was attached, and lay it where the worker looks: files into in/, the dataset at work/source."""
    sys.path.insert(0, os.path.join(box, "in", "worker.pyz"))
    from samerun_worker.data import unshard  # type: ignore[import-not-found]

    scratch = os.path.join(box, "work", "unpacked")
    for carried in plan["carried"]:
        places = unshard.locate([root()], carried["key"], carried["files"], scratch)
        for file in carried["files"]:
            bring(places[file["sha256"]], os.path.join(box, "in", file["path"]))
    for file in plan["former"]:
        bring(in_former(plan["former_mark"], file), os.path.join(box, "in", file["path"]))
    source = os.path.join(box, "work", "source")
    if plan["dataset"] is not None:
        with open(os.path.join(box, "in", "data.json"), encoding="utf-8") as stream:
            files = json.load(stream)["files"]
        print(f"attaching the dataset: {len(files)} files", flush=True)
        os.makedirs(source, exist_ok=True)
        unshard.lay([root()], plan["dataset"], files, source, scratch)
    elif plan["attached"] is not None:
        place = mounted(plan["attached"]["kind"], plan["attached"]["name"])
        print(f"attaching {plan['attached']['name']} from {place}", flush=True)
        os.symlink(place, source)
    else:
        os.makedirs(source, exist_ok=True)


def bring(place: str, target: str) -> None:
    """Copy a file in; what it should be is checked by the worker."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copyfile(place, target)


def in_former(mark: str, file: dict) -> str:  # type: ignore[type-arg]
    """A file of the former attempt's output, which is attached: by its mark, and by digest."""
    for marker in found(lambda name: name == mark):
        place = os.path.join(os.path.dirname(marker), *file["at"].split("/"))
        if os.path.isfile(place) and sha256(place) == file["sha256"]:
            return place
    raise StepError(
        f"{file['at']} of the former attempt is not in what Kaggle attached, or has other bytes",
        "`launch resume` sends the checkpoint from your machine",
    )


def mounted(kind: str, name: str) -> str:
    """The folder of an attached dataset or competition, wherever this image mounts it."""
    owner, slug = ([*name.split("/"), ""])[:2] if kind == "kaggle-dataset" else ("", name)
    places = [("datasets", owner, slug), (owner, slug), ("competitions", slug), (slug,)]
    for place in places:
        path = below(root(), [part for part in place if part])
        if path is not None and os.listdir(path):
            return path
    there = ", ".join(sorted(os.listdir(root()))) if os.path.isdir(root()) else "nothing"
    raise StepError(
        f"{name} is not attached: below {root()} there is {there}",
        "check its name, that your account can read it, and (a competition) that you have accepted its rules",
    )


def below(folder: str, parts: list[str]) -> str | None:
    """A folder by its parts, written in capitals or not: names of Kaggle's have both forms, and mounts one of them."""
    for part in parts:
        names = os.listdir(folder) if os.path.isdir(folder) else []
        same = sorted((name for name in names if name.lower() == part.lower()), key=lambda name: name != part)
        if not same:
            return None
        folder = os.path.join(folder, same[0])
    return folder if os.path.isdir(folder) else None


def found(wanted) -> Iterator[str]:  # type: ignore[no-untyped-def]
    """Paths of attached files by their names, links to folders followed, each folder once."""
    seen = set()
    for folder, folders, names in os.walk(root(), followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (os.path.join(folder, name) for name in sorted(names) if wanted(name))


def root() -> str:
    """Where Kaggle mounts what is attached."""
    return os.environ.get("KAGGLE_INPUT_ROOT", "/kaggle/input")


def sha256(path: str) -> str:
    """Of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def main(argv: list[str]) -> int:
    """Run one step; an error goes to the supervisor as the worker's own would."""
    what, box = argv
    with open(os.path.join(box, "in", "kaggle.json"), encoding="utf-8") as stream:
        plan = json.load(stream)
    try:
        {"install": install, "attach": attach}[what](box, plan)
    except Exception as error:  # noqa: BLE001  the last place that can say why
        reason = str(error) if isinstance(error, StepError) else f"{type(error).__name__}: {error}"
        event = {"event": "error", "type": type(error).__name__, "reason": f"{what}: {reason}"[:2000]}
        event["remedy"] = getattr(error, "remedy", "`launch logs` shows what was printed")
        os.write(int(os.environ["SAMERUN_EVENTS"]), (json.dumps(event) + "\n").encode())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
