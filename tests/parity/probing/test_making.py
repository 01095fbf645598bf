"""What is sent with a run so that its machine is probed: made once, small, beside the bundle, and of this very spec."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.analysis import load_run
from launcher.backend import Backend
from launcher.errors import IntegrityError, NotFoundError
from launcher.installed import installed
from launcher.parity.probing import Made, ProbeError, for_run, key_of, make, making, plan_of, read
from launcher.runs import create
from launcher.runs.driving import attempts
from launcher.runs.record import PROBE, TRAINING, AttemptRecord
from launcher.runs.store import Store
from launcher.settings import Settings
from launcher.spec.load import load_spec
from tests.parity.probing.conftest import World
from tests.parity.probing.records import record

SPEC = (
    "model: yolo11n.yaml\ndata: {{reef: {{seed: 1, train_videos: 1, val_videos: 1, frames: 3}}}}\ntrain: {{{train}}}\n"
)


class Anywhere:
    """As much of a backend as a run's record needs."""

    name, options = "anywhere", frozenset[str]()


@pytest.fixture
def settings_here() -> Settings:
    return Settings.load()


def packed(settings: Settings, folder: Path, train: str = "epochs: 30, imgsz: 96", **more: Any) -> Any:
    """A spec's bundle and data."""
    file = folder / "one.yaml"
    file.write_text(
        SPEC.format(train=train) + "".join(f"{name}: {json.dumps(value)}\n" for name, value in more.items())
    )
    loaded = load_spec(file)
    data = create.look_at_data(settings, loaded.spec, lambda *_: None, make=True)
    assert isinstance(data, create.Data)
    return loaded, data, create.pack_bundle(settings, loaded, data)


def held(settings: Settings, key: str, batches: bytes = b"batches") -> Made:
    """A probe in the cache that was never computed."""
    folder = making._folder(settings, key)
    folder.mkdir(parents=True)
    value = record(lambda made: made.update(key=key))
    (folder / "batches.npz").write_bytes(batches)
    (folder / "weights.npz").write_bytes(b"weights")
    (folder / "probe.json").write_text(json.dumps(value))
    return Made(key, folder, value)


@pytest.mark.parametrize(
    ("train", "same"),
    [
        ("epochs: 300, imgsz: 96", True),
        ("epochs: 30, imgsz: 96, optimizer: SGD, lr0: 0.1, workers: 4, patience: 5", True),
        ("epochs: 30, imgsz: 96, amp: false, val: false", True),
        ("epochs: 5, imgsz: 96", False),  # mosaic is off for all of it
        ("epochs: 30, imgsz: 128", False),
        ("epochs: 30, imgsz: 96, box: 5.0", False),
        ("epochs: 30, imgsz: 96, seed: 1", False),
        ("epochs: 30, imgsz: 96, hsv_h: 0.0", False),
        ("epochs: 30, imgsz: 96, batch: 4", False),
    ],
)
def test_the_key_is_what_shapes_batches_and_loss(
    settings_here: Settings, tmp_path: Path, train: str, same: bool
) -> None:
    _, data, bundle = packed(settings_here, tmp_path)
    _, other_data, other = packed(settings_here, tmp_path, train)
    assert (key_of(bundle, data) == key_of(other, other_data)) is same


def test_a_probe_changes_no_digest_of_the_experiment(settings_here: Settings, tmp_path: Path) -> None:
    loaded, data, bundle = packed(settings_here, tmp_path, parity={"probe": "require"})
    assert bundle.digest == packed(settings_here, tmp_path)[2].digest
    made = held(settings_here, key_of(bundle, data))
    plan = plan_of(settings_here, made, required=True, on_different="stop")
    backend: Backend[Any] = Anywhere()  # type: ignore[assignment]
    store = Store(settings_here.runs_dir)
    with_probe = create.new_run(settings_here, store, loaded, data, bundle, backend, probe=plan)
    without = create.new_run(settings_here, store, loaded, data, bundle, backend)
    assert (with_probe.bundle, with_probe.key) == (without.bundle, without.key)
    assert store.read(with_probe.id).probe == plan
    sent = attempts.build(settings_here, store, with_probe, AttemptRecord("a1", 1, "anywhere", 1.0), backend)
    paths = {file.path for file in sent.inputs} - {file.path for file in bundle.files}
    assert paths == {"probe/batches.npz", "probe/weights.npz", "probe/reference.json"}
    assert set(sent.describe["probe"]["files"]) == paths
    assert not paths & set(sent.describe["files"])
    assert "source" not in json.dumps(sent.describe["probe"])
    assert (
        "probe"
        not in attempts.build(settings_here, store, without, AttemptRecord("a1", 1, "anywhere", 1.0), backend).describe
    )


@pytest.mark.parametrize("required", [True, False])
def test_a_cache_that_lost_the_probe_is_said_where_it_is_required(
    settings_here: Settings, tmp_path: Path, required: bool
) -> None:
    loaded, data, bundle = packed(settings_here, tmp_path)
    made = held(settings_here, key_of(bundle, data))
    plan = plan_of(settings_here, made, required=required, on_different="stop")
    backend: Backend[Any] = Anywhere()  # type: ignore[assignment]
    store = Store(settings_here.runs_dir)
    run = create.new_run(settings_here, store, loaded, data, bundle, backend, probe=plan)
    (made.folder / "batches.npz").unlink()
    attempt = AttemptRecord("a1", 1, "anywhere", 1.0)
    if required:
        with pytest.raises(NotFoundError, match=r"batches\.npz"):
            attempts.build(settings_here, store, run, attempt, backend)
    else:
        assert "probe" not in attempts.build(settings_here, store, run, attempt, backend).describe


def test_a_run_that_is_only_a_probe_has_a_name_kind_and_bundle_of_its_own(
    settings_here: Settings, tmp_path: Path
) -> None:
    loaded, data, bundle = packed(settings_here, tmp_path)
    only = create.pack_bundle(settings_here, loaded, data, only_probe=True)
    assert only.digest != bundle.digest
    assert key_of(only, data) == key_of(bundle, data)
    store = Store(settings_here.runs_dir)
    backend: Backend[Any] = Anywhere()  # type: ignore[assignment]
    training = create.new_run(settings_here, store, loaded, data, bundle, backend)
    run = create.new_run(settings_here, store, loaded, data, only, backend, only_probe=True)
    assert (run.kind, run.name, run.epochs) == (PROBE, f"{loaded.spec.name}-probe", None)
    assert {row.id: row.kind for row in store.rows()} == {run.id: PROBE, training.id: TRAINING}
    assert store.resolve(loaded.spec.name) == training.id  # though the probe is newer
    with pytest.raises(NotFoundError, match="is a probe, no training"):
        load_run(run.id, settings_here)


def values_sent(plan: dict[str, Any]) -> Any:
    return json.loads(Path(plan["files"]["probe/reference.json"]["source"]).read_text())


def test_the_reference_runs_values_are_sent_where_they_are_of_the_same_batches(settings_here: Settings) -> None:
    made = held(settings_here, "k" * 64)

    def theirs(**more: Any) -> Any:
        return {**record(lambda one: one["kernel"].update(weights_digest="theirs")), "key": made.key, **more}

    def sent(reference: Any) -> str:
        plan = plan_of(settings_here, made, reference=reference, required=False, on_different="stop")
        return str(values_sent(plan)["kernel"]["weights_digest"])

    assert sent(theirs(result={"verdict": "identical"})) == "theirs"
    assert sent(None) == "after"
    assert sent(theirs(key="other")) == "after"
    assert sent(theirs(batches={"digest": "not here"})) == "after"


@pytest.mark.parametrize(
    ("mode", "has_reference", "breaks", "planned"),
    [
        ("auto", True, False, True),
        ("auto", False, False, False),
        ("auto", True, True, False),
        ("require", False, False, True),
        ("off", True, False, False),
    ],
)
def test_when_a_training_is_probed(
    settings_here: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    has_reference: bool,
    breaks: bool,
    planned: bool,
) -> None:
    _, data, bundle = packed(settings_here, tmp_path)
    if breaks:
        monkeypatch.setattr(making, "_run", lambda _: (_ for _ in ()).throw(ProbeError("no torch")))
    else:
        held(settings_here, key_of(bundle, data))
    folder = tmp_path / "reference"
    folder.mkdir()
    if has_reference:
        (folder / "probe.json").write_text(json.dumps(record()))
    plan, said = for_run(settings_here, {"probe": mode, "on_different": "stop"}, bundle, data, folder)
    assert (plan is not None) is planned
    assert (said == "") is (not planned and not breaks)
    if plan is not None:
        assert plan["required"] is (mode == "require")


def test_one_that_is_required_and_cannot_be_made_starts_nothing(
    settings_here: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, data, bundle = packed(settings_here, tmp_path)
    said = '{"event": "error", "reason": "no torch here"}\n'
    done = subprocess.CompletedProcess([], 1, said, "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(ProbeError, match="no torch here"):
        for_run(settings_here, {"probe": "require"}, bundle, data, None)
    assert list((settings_here.cache_dir / "probes").iterdir()) == []


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": NaN}', "x" * (5 << 20)])
def test_a_probe_that_cannot_be_read_is_an_integrity_error(tmp_path: Path, text: str) -> None:
    assert read(tmp_path) is None
    (tmp_path / "probe.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"probe\.json cannot be read"):
        read(tmp_path)


@pytest.mark.slow
@pytest.mark.xdist_group("planted-probe")
def test_it_is_made_once_and_is_small(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "_run", lambda _: pytest.fail("made again"))
    assert make(world.settings, world.bundle, world.data) == world.made
    plan = plan_of(world.settings, world.made, required=True, on_different="stop")
    assert 1_000_000 < sum(file["size"] for file in plan["files"].values()) < 20_000_000
    assert world.made.record["seconds"] < 60
    assert "result" not in world.made.record
    assert [path.name for path in (world.settings.cache_dir / "probes").iterdir()] == [world.made.folder.name]


def test_another_version_of_torch_is_another_probe(settings_here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = making._folder(settings_here, "k" * 64)
    found = installed(settings_here)
    other = replace(found, versions={**found.versions, "torch": "0"})
    monkeypatch.setattr(making, "installed", lambda _: other)
    assert making._folder(settings_here, "k" * 64) != before
