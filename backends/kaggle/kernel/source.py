"""The name of an attempt's kernel, and the script that is pushed under it.

Promises: name and script depend on the attempt alone, so that the same attempt is the same kernel in every process;
what an attempt left behind can be told from its script's first line.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launcher.backend import InputFile

PREFIX = "samerun-"
"""Begins the name of everything of ours at Kaggle."""
NAME_LENGTH = 16  # characters of the run's name; a slug may have 50 (Kaggle's rule for datasets, taken for kernels too)
INLINE_BYTES = 600_000
"""Of base64 in a script. How large a source Kaggle takes is not known; facts/kaggle.md advises to stay below 1 MB."""
CHECKPOINT = "resume/"
"""Where a checkpoint lies among the inputs."""
ALWAYS = ("worker.pyz", "job.json", "spec.yaml", "payload.py", "prepare.py")
STEPS = "kaggle_steps.py"
_HEAD = "# samerun "
_SLUG = re.compile(rf"{PREFIX}([a-z0-9-]+-)?[0-9a-f]{{12}}")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_HERE = Path(__file__).parent
_LINE = 120


@dataclass(frozen=True)
class Head:
    """What the first line of a script says: enough to take the kernel up again from nothing else.

    `hours`: the longest that its session may last; `temporary`: datasets that end with it; `sources`: what it was
    pushed with.
    """

    attempt: str
    hours: float
    sources: tuple[str, ...] = ()
    temporary: tuple[str, ...] = ()


def slug_of(attempt: str) -> str:
    """`samerun-smoke-1a2b3c4d5e6f`: at most 37 characters, of an attempt's id. Its title is the same with spaces."""
    name = re.sub(r"[^a-z0-9]+", "-", attempt.lower())[:NAME_LENGTH].strip("-")
    digest = hashlib.sha256(attempt.encode()).hexdigest()[:12]
    return f"{PREFIX}{name}-{digest}" if name else f"{PREFIX}{digest}"


def is_kernel(slug: str) -> bool:
    """Whether `slug_of` may have made it: datasets of ours end otherwise."""
    return _SLUG.fullmatch(slug) is not None


def title_of(slug: str) -> str:
    """A title that Kaggle makes this slug of; a kernel lands at its title's slug, whatever slug was asked for."""
    return slug.replace("-", " ")


def inlined(inputs: Sequence[InputFile]) -> tuple[tuple[InputFile, ...], tuple[InputFile, ...]]:
    """Inputs that travel in the script, and those that are too large for it. Reads the small ones."""
    room = INLINE_BYTES
    inside, outside = [], []
    for file in sorted(inputs, key=lambda file: (file.path not in ALWAYS, file.size, file.path)):
        cost = 0 if file.path in ALWAYS else _cost(file)
        if cost <= room:
            room -= cost
            inside.append(file)
        else:
            outside.append(file)
    return tuple(inside), tuple(outside)


def _cost(file: InputFile) -> int:
    """Bytes that it takes as base64; what is far too large is not read."""
    if file.size > 20 * INLINE_BYTES:
        return file.size
    return len(zlib.compress(file.source.read_bytes(), 9)) * 4 // 3


def text_of(head: Head, config: Mapping[str, Any], inputs: Iterable[InputFile]) -> str:
    """The script: the head, the configuration, the inputs, and the program that is the same for all."""
    steps = (_HERE / "steps.py").read_bytes()
    files = {**{file.path: file.source.read_bytes() for file in inputs}, STEPS: steps}
    payload = base64.b64encode(_zip(files)).decode()
    lines = "\n".join(payload[at : at + _LINE] for at in range(0, len(payload), _LINE))
    program = (_HERE / "script.py").read_text(encoding="utf-8")
    program, config_found = re.subn(
        r"^CONFIG: .*$", lambda _: f"CONFIG = json.loads({_literal(config)})", program, count=1, flags=re.MULTILINE
    )
    program, payload_found = re.subn(
        r'^PAYLOAD = ""$', lambda _: f'PAYLOAD = """\n{lines}\n"""', program, count=1, flags=re.MULTILINE
    )
    assert config_found == payload_found == 1, "script.py has no place for what is written into it"
    return f"{_HEAD}{json.dumps(asdict(head), sort_keys=True)}\n{program}"


def head_of(source: str) -> Head | None:
    """What a script's first line says; None for one that is not ours."""
    line = source.lstrip("\ufeff").split("\n", 1)[0]
    if not line.startswith(_HEAD):
        return None
    try:
        value = json.loads(line[len(_HEAD) :])
        sources, temporary = tuple(map(str, value["sources"])), tuple(map(str, value["temporary"]))
        return Head(str(value["attempt"]), float(value["hours"]), sources, temporary)
    except (ValueError, KeyError, TypeError):
        return None


def _literal(value: Mapping[str, Any]) -> str:
    """JSON as a Python literal of a text, in ASCII."""
    return ascii(json.dumps(value, sort_keys=True))


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(files.items()):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, data)
    return buffer.getvalue()
