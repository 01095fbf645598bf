"""The script of a kernel and its name; and what its steps do in the image, for real: `pip` in a venv of its own."""

from __future__ import annotations

import ast
import ensurepip
import hashlib
import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slugify import slugify

from backends.kaggle import KaggleBackend
from backends.kaggle.datasets import Datasets
from backends.kaggle.kernel import source, steps
from backends.kaggle.kernel.source import Head, head_of, is_kernel, slug_of, text_of, title_of
from launcher.backend import InputFile
from launcher.testing.attempts import AttemptMaker
from tests.emulators.kaggle import KaggleEmulator

HEADS = st.builds(
    Head,
    st.text(max_size=60),
    st.floats(0.001, 12),
    st.lists(st.text(max_size=20), max_size=3).map(tuple),
    st.lists(st.text(max_size=20), max_size=3).map(tuple),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(min_size=1, max_size=80))
def test_a_title_becomes_the_slug_again(attempt: str) -> None:
    slug = slug_of(attempt)
    assert slugify(title_of(slug)) == slug, "Kaggle puts a kernel at its title's slug"
    assert 5 <= len(slug) <= 50
    assert re.fullmatch(r"[a-z][a-z0-9-]*[a-z0-9]", slug)
    assert is_kernel(slug)
    assert slug_of(attempt) == slug


@pytest.mark.parametrize("attempt", ["日本語", "---", "É", "_", "a" * 200, "Smoke Run.a1", "İ" * 20])
def test_odd_names_have_a_slug_too(attempt: str) -> None:
    assert slugify(title_of(slug_of(attempt))) == slug_of(attempt)


@given(st.sets(st.text(max_size=40), min_size=2, max_size=10))
def test_two_attempts_have_two_slugs(attempts: set[str]) -> None:
    assert len({slug_of(attempt) for attempt in attempts}) == len(attempts)


@pytest.mark.parametrize(
    "slug", ["samerun-data-0123456789abcdef0123", "samerun-files-0123456789abcdef0123", "my-kernel"]
)
def test_a_dataset_is_no_kernel(slug: str) -> None:
    assert not is_kernel(slug)


@given(HEADS)
def test_a_script_says_what_it_is(head: Head) -> None:
    assert head_of(text_of(head, {}, [])) == head
    assert head_of("\ufeff" + text_of(head, {}, []).replace("\n", "\r\n")) == head


@given(st.text() | st.text().map(lambda text: "# samerun " + text) | JSON.map(lambda v: f"# samerun {json.dumps(v)}\n"))
def test_what_is_not_ours_is_told_apart(text: str) -> None:
    assert head_of(text) is None or isinstance(head_of(text), Head)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_the_configuration_arrives_and_the_script_is_python_3_10(config: dict[str, Any]) -> None:
    text = text_of(Head("a", 1.0), config, [])
    tree = ast.parse(text, feature_version=(3, 10))
    assigned = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    call = assigned["CONFIG"]
    assert isinstance(call, ast.Call)
    assert json.loads(ast.literal_eval(call.args[0])) == config
    assert text.isascii()


def test_the_steps_are_python_3_10_and_need_nothing_but_the_standard_library() -> None:
    for module in ("steps.py", "script.py"):
        tree = ast.parse((Path(source.__file__).parent / module).read_text(), feature_version=(3, 10))
        imported = {
            name.split(".")[0]
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert imported <= sys.stdlib_module_names | {"samerun_worker"}


def _input(folder: Path, path: str, data: bytes) -> InputFile:
    file = folder / path.replace("/", "_")
    file.write_bytes(data)
    return InputFile(path, file, "0" * 64, len(data))


def test_small_inputs_are_in_the_script_and_large_ones_are_not(tmp_path: Path) -> None:
    small = _input(tmp_path, "data.json", b"{}" * 1000)
    packed = _input(tmp_path, "model/text.yaml", b"yaml" * 1_000_000)
    large = _input(tmp_path, "model/a.pt", os.urandom(700_000))
    always = _input(tmp_path, "worker.pyz", os.urandom(700_000))
    inside, outside = source.inlined([large, packed, small, always])
    assert set(inside) == {small, packed, always}, "what counts is the size in the script"
    assert outside == (large,)


@given(st.lists(st.integers(0, 400_000), max_size=8))
def test_a_script_is_never_larger_than_kaggle_may_take(sizes: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        files = [_input(Path(folder), f"f{number}", os.urandom(size)) for number, size in enumerate(sizes)]
        inside, outside = source.inlined(files)
        assert set(inside) | set(outside) == set(files)
        text = text_of(Head("a", 1.0), {}, inside)
        assert len(text) < source.INLINE_BYTES + 60_000


def test_the_same_attempt_is_the_same_script(backend: KaggleBackend, make_attempt: AttemptMaker) -> None:
    attempt = make_attempt(data={"b.txt": b"2", "a.txt": b"1"}, model="m.pt", resume=1)
    assert backend.prepare(attempt).text == backend.prepare(attempt).text


# Finding what is attached.


def test_a_former_checkpoint_counts_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_INPUT_ROOT", str(tmp_path))
    good = {"at": "checkpoint/last.pt", "sha256": hashlib.sha256(b"weights").hexdigest()}
    for folder, data in (("a", b"others"), ("notebooks/alice/b", b"weights"), ("no-mark", b"weights")):
        (tmp_path / folder / "checkpoint").mkdir(parents=True)
        (tmp_path / folder / "checkpoint/last.pt").write_bytes(data)
        if folder != "no-mark":
            (tmp_path / folder / "mark.json").touch()
    assert steps.in_former("mark.json", good) == str(tmp_path / "notebooks/alice/b/checkpoint/last.pt")
    for mark, file in (
        ("mark.json", {**good, "sha256": "0" * 64}),
        ("other.json", good),
        ("mark.json", {**good, "at": "x"}),
    ):
        with pytest.raises(steps.StepError, match="former attempt") as error:
            steps.in_former(mark, file)
        assert "launch resume" in error.value.remedy


@pytest.mark.parametrize(
    ("kind", "name", "place"),
    [
        ("kaggle-dataset", "alice/reef", "datasets/alice/reef"),
        ("kaggle-dataset", "alice/reef/3", "reef"),
        ("kaggle-dataset", "alice/reef", "alice/reef"),
        ("kaggle-competition", "cots", "competitions/cots"),
        ("kaggle-competition", "cots", "cots"),
        ("kaggle-dataset", "Cornell-University/arxiv", "datasets/cornell-university/arxiv"),
        ("kaggle-competition", "Kannada-MNIST", "kannada-mnist"),
    ],
)
def test_what_is_attached_is_found_in_every_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str, place: str
) -> None:
    monkeypatch.setenv("KAGGLE_INPUT_ROOT", str(tmp_path / "input"))
    with pytest.raises(steps.StepError, match="there is nothing"):
        steps.mounted(kind, name)
    (tmp_path / "input/another").mkdir(parents=True)
    with pytest.raises(steps.StepError, match="there is another"):
        steps.mounted(kind, name)
    (tmp_path / "input" / place / "images").mkdir(parents=True)
    assert steps.mounted(kind, name) == str(tmp_path / "input" / place)


# Installing, in an image of our own.


@dataclass
class Image:
    """A venv whose packages are files without code, and a box as `install` finds it."""

    root: Path

    @property
    def python(self) -> Path:
        return self.root / "image/bin/python"

    @property
    def site(self) -> Path:
        (site,) = (self.root / "image/lib").glob("python*/site-packages")
        return site

    def has(self, name: str, version: str) -> None:
        """As if the image had been built with it."""
        info = self.site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text(f"{name}.py,,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n")
        (info / "INSTALLER").write_text("image\n")
        (self.site / f"{name}.py").write_text(f"__version__ = {version!r}\n")

    def wheel(self, name: str, version: str, *needs: str) -> None:
        """A wheel in the attached dataset."""
        folder = self.root / "input/datasets/alice/wheels"
        folder.mkdir(parents=True, exist_ok=True)
        info = f"{name}-{version}.dist-info"
        lines = [
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
            *(f"Requires-Dist: {each}" for each in needs),
        ]
        files = {
            f"{name}.py": f"__version__ = {version!r}\n",
            f"{info}/METADATA": "\n".join(lines) + "\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in files) + f"{info}/RECORD,,\n"
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)

    def install(self, wanted: str, *, internet: bool) -> tuple[int, dict[str, Any], str]:
        """Run the step; exit code, its event and what it printed."""
        box = self.root / "box"
        for name in ("in", "work"):
            (box / name).mkdir(parents=True, exist_ok=True)
        (box / "in/kaggle.json").write_text(json.dumps({"ultralytics": wanted, "internet": internet}))
        events = self.root / "events"
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "KAGGLE_INPUT_ROOT": str(self.root / "input"),
            "PIP_INDEX_URL": "http://127.0.0.1:9/simple",  # nobody there
            "PIP_RETRIES": "0",
        }
        with events.open("wb") as out:
            env["SAMERUN_EVENTS"] = str(out.fileno())
            argv = [str(self.python), steps.__file__, "install", str(box)]
            done = subprocess.run(
                argv, env=env, pass_fds=[out.fileno()], capture_output=True, text=True, timeout=120, check=False
            )
        said = events.read_text()
        return done.returncode, json.loads(said) if said else {}, done.stdout + done.stderr

    def installed(self, name: str) -> str:
        program = f"import {name}, importlib.metadata as m; print({name}.__version__, m.version({name!r}))"
        done = subprocess.run([str(self.python), "-c", program], capture_output=True, text=True, check=True)
        version, listed = done.stdout.split()
        assert version == listed
        return version


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv with pip, copied by each test. Python's own copy of pip is unpacked: `ensurepip` takes seconds."""
    root = tmp_path_factory.mktemp("image")
    venv.create(root / "image", symlinks=True)
    (wheel,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(Image(root).site)
    subprocess.run([str(Image(root).python), "-m", "pip", "help", "install"], check=True, capture_output=True)
    return root


@pytest.fixture
def image(fresh: Path, tmp_path: Path) -> Image:
    """Torch 2.8.0+cu126, as an image may have it."""
    import shutil

    shutil.copytree(fresh / "image", tmp_path / "image", symlinks=True)
    image = Image(tmp_path)
    image.has("torch", "2.8.0+cu126")
    image.has("numpy", "2.0.2")
    return image


def test_wheels_are_installed_without_internet_and_without_touching_torch(image: Image) -> None:
    image.wheel("ultralytics", "8.4.190", "torch>=1.8", "numpy>=1.23", "ultralytics_thop")
    image.wheel("ultralytics_thop", "2.0.0", "torch", "numpy")
    image.wheel("torch", "2.9.0")  # newer ones lie there too, as `pip download` brings them
    image.wheel("numpy", "2.3.0")
    code, event, said = image.install("8.4.190", internet=False)
    assert (code, event) == (0, {}), said
    assert "without touching torch, numpy" in said
    assert image.installed("ultralytics") == "8.4.190"
    assert image.installed("ultralytics_thop") == "2.0.0"
    assert image.installed("torch") == "2.8.0+cu126"
    assert image.installed("numpy") == "2.0.2"


@pytest.mark.slow
def test_another_version_than_the_image_has_replaces_it(image: Image) -> None:
    image.has("ultralytics", "8.3.0")
    image.wheel("ultralytics", "8.4.190", "torch>=1.8")
    assert image.install("8.4.190", internet=False)[0] == 0
    assert image.installed("ultralytics") == "8.4.190"


@pytest.mark.slow
def test_what_would_need_another_torch_is_refused(image: Image) -> None:
    image.wheel("ultralytics", "8.4.190", "torch>=2.9")
    image.wheel("torch", "2.9.0")
    code, event, said = image.install("8.4.190", internet=False)
    assert code == 1
    assert "pip ended with exit code 1" in event["reason"], said
    assert image.installed("torch") == "2.8.0+cu126"


def test_without_wheels_it_says_what_to_attach(image: Image) -> None:
    code, event, said = image.install("8.4.190", internet=False)
    assert code == 1
    assert event["event"] == "error"
    assert "no wheel of ultralytics is attached" in event["reason"]
    assert "resources.wheels" in event["remedy"]
    assert "Traceback" not in said


def test_without_an_internet_that_was_promised_it_says_so(image: Image) -> None:
    code, event, _ = image.install("8.4.190", internet=True)
    assert code == 1
    assert "could not be installed" in event["reason"]
    assert "phone number" in event["remedy"]


def test_what_is_there_already_is_not_installed(image: Image) -> None:
    image.has("ultralytics", "8.4.190")
    assert image.install("8.4.190", internet=True) == (0, {}, "")
    assert image.install("", internet=True) == (0, {}, "")


def test_the_emulated_account_keeps_what_is_ours_only(
    backend: KaggleBackend, kaggle: KaggleEmulator, tmp_path: Path
) -> None:
    """Somebody's kernel or dataset with our prefix is neither listed nor touched."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/a.txt").write_text("1")
    kaggle.datasets.add("alice/samerun-data-mine", tmp_path / "theirs")
    assert backend.stored() == []
    assert isinstance(backend._account().datasets, Datasets)
