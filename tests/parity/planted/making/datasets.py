"""The small reef, and copies of it with something else in them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launcher.data.reef import ReefOptions, generate

TRAIN = ReefOptions(seed=0, train_videos=4, val_videos=4, frames=14)
BEFORE = ReefOptions(seed=7, train_videos=8, val_videos=1, frames=24)
"""What the initial weights were trained on."""
LARGE = 0.02  # of the image: two classes, by the area of the box, so that their order matters


def reef(to: Path, options: ReefOptions) -> Path:
    """A reef with two classes; returns its data.yaml."""
    yaml = generate(options, to)
    for label in sorted(to.glob("labels/**/*.txt")):
        rows = [line.split() for line in label.read_text().splitlines()]
        for row in rows:
            row[0] = str(int(float(row[3]) * float(row[4]) > LARGE))
        label.write_text("".join(" ".join(row) + "\n" for row in rows))
    _write(yaml, "images/train", "images/val")
    return yaml


def variant(source: Path, to: Path, name: str) -> Path:
    """A copy of the dataset with one thing changed; returns its data.yaml."""
    shutil.copytree(source.parent, to, ignore=shutil.ignore_patterns("*.cache"))
    VARIANTS[name](to)
    return to / "data.yaml"


def _write(yaml: Path, train: str, val: str, names: tuple[str, str] = ("small star", "large star")) -> None:
    """data.yaml without `path`: what it names lies beside it."""
    yaml.write_text(f"train: {train}\nval: {val}\nnames: [{names[0]}, {names[1]}]\n")


def _labelled(root: Path, split: str) -> list[Path]:
    return [file for file in sorted(root.glob(f"labels/{split}/**/*.txt")) if file.read_text().strip()]


def _one_label(root: Path) -> None:
    """A box of one file is moved by a tenth of the image."""
    file = _labelled(root, "train")[0]
    kind, x, *rest = file.read_text().split("\n", 1)[0].split()
    others = file.read_text().split("\n", 1)[1]
    file.write_text(" ".join((kind, f"{0.1 + 0.8 * float(x):.6f}", *rest)) + "\n" + others)


def _dropped(root: Path) -> None:
    """One box in a hundred is gone, and one at least."""
    lines = [(file, at) for file in _labelled(root, "train") for at in range(len(file.read_text().splitlines()))]
    for file, at in lines[:: max(1, min(100, len(lines)))]:
        rows = file.read_text().splitlines()
        file.write_text("".join(f"{row}\n" for number, row in enumerate(rows) if number != at))


def _swapped(root: Path) -> None:
    _write(root / "data.yaml", "images/val", "images/train")


def _overlap(root: Path) -> None:
    """A quarter of the validation images is trained on, too."""
    train, val = (sorted(root.glob(f"images/{split}/**/*.png")) for split in ("train", "val"))
    listed = "".join(f"./{file.relative_to(root)}\n" for file in (*train, *val[::4]))
    (root / "train.txt").write_text(listed)
    _write(root / "data.yaml", "train.txt", "images/val")


def _classes(root: Path) -> None:
    _write(root / "data.yaml", "images/train", "images/val", ("large star", "small star"))


def _image(file: Path) -> Any:
    import cv2

    return cv2.imread(str(file))


def _colours(root: Path) -> None:
    import cv2

    for file in sorted(root.glob("images/**/*.png")):
        cv2.imwrite(str(file), _image(file)[..., ::-1])


def _jpeg(root: Path) -> None:
    """Every picture through JPEG once."""
    import cv2

    for file in sorted(root.glob("images/**/*.png")):
        _, data = cv2.imencode(".jpg", _image(file), [cv2.IMWRITE_JPEG_QUALITY, 75])
        cv2.imwrite(str(file), cv2.imdecode(data, cv2.IMREAD_COLOR))


def _pixel(root: Path) -> None:
    """One pixel of one picture is one level off."""
    import cv2

    file = min(root.glob("images/train/**/*.png"))
    image = _image(file)
    image[0, 0, 0] ^= 1
    cv2.imwrite(str(file), image)


def _fewer(root: Path) -> None:
    """One training image is gone."""
    file = min(root.glob("images/train/**/*.png"))
    file.unlink()


def _val_labels(root: Path) -> None:
    """Half of the validation's labelled files were empty when the label cache was made."""
    for file in _labelled(root, "val")[::2]:
        file.write_text("")


def _val_is_train(root: Path) -> None:
    _write(root / "data.yaml", "images/train", "images/train")


VARIANTS: dict[str, Callable[[Path], None]] = {
    "one label": _one_label,
    "labels dropped": _dropped,
    "swapped": _swapped,
    "overlap": _overlap,
    "class order": _classes,
    "colours": _colours,
    "jpeg": _jpeg,
    "one pixel": _pixel,
    "fewer": _fewer,
    "stale val labels": _val_labels,
    "val is train": _val_is_train,
    "copy": lambda root: None,
}
