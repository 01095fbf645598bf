"""Small datasets for the tests of `launcher.data`."""

from __future__ import annotations

import io
import os
from pathlib import Path

from launcher.data.reef import png

HOUR_NS = 3_600_000_000_000


def picture(number: int = 0, width: int = 16, height: int = 12) -> bytes:
    """A small PNG; another number, other pixels."""
    return png(bytes((number + at) % 251 for at in range(width * height * 3)), width, height)


def encoded(form: str, number: int = 0, width: int = 16, height: int = 12) -> bytes:
    """A small picture in a format of Pillow's, such as `GIF`."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (number % 256, 90, 120)).save(buffer, form)
    return buffer.getvalue()


def jpeg(number: int = 0, width: int = 16, height: int = 12) -> bytes:
    """A small JPEG."""
    return encoded("JPEG", number, width, height)


def write(root: Path, files: dict[str, bytes | str]) -> None:
    """Write files below `root`, in the order given."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def sound(root: Path, yaml: str = "train: images/train\nval: images/val\nnames: [starfish]\n") -> Path:
    """A dataset without a fault: three images to train on, of which one is background, and two to validate."""
    files: dict[str, bytes | str] = {"data.yaml": yaml}
    for number, name in enumerate(("train/v0/a", "train/v0/b", "train/v1/c", "val/v2/d", "val/v2/e")):
        files[f"images/{name}.png"] = picture(number)
        if name != "train/v1/c":
            files[f"labels/{name}.txt"] = f"0 0.5 0.5 0.{number + 1} 0.2\n"
    write(root, files)
    return root / "data.yaml"


def age(root: Path) -> None:
    """Set every file's modification time an hour back. The change time stays now: nothing can set that."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            then = path.stat().st_mtime_ns - HOUR_NS
            os.utime(path, ns=(then, then))
