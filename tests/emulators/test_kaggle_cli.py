"""The real `kaggle` command, unmodified, does all its everyday work on the emulator."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.clients import Cli
from tests.emulators.kaggle import KaggleEmulator
from tests.emulators.test_kaggle_runs import until
from tests.emulators.tls_proxy import tls_proxy

SCRIPT = """
import os, pathlib
root = pathlib.Path(os.environ.get("KAGGLE_INPUT_ROOT", "/kaggle/input"))
print("sees", sorted(path.name for path in root.rglob("*") if path.is_file()))
os.makedirs("runs/train")
open("runs/train/results.csv", "w").write("epoch")
"""


def kernel_folder(folder: Path, **fields: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "script.py").write_text(SCRIPT)
    metadata = {
        "id": "alice/my-first-run",
        "title": "My first run",
        "code_file": "script.py",
        "language": "python",
        "kernel_type": "script",
        "enable_internet": False,
        **fields,
    }
    (folder / "kernel-metadata.json").write_text(json.dumps(metadata))
    return folder


def dataset_folder(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.jpg").write_text("jpg")
    (folder / "b.txt").write_text("b")
    (folder / "empty.txt").write_text("")
    metadata = {"id": "alice/reef-set", "title": "The reef set", "licenses": [{"name": "CC0-1.0"}]}
    (folder / "dataset-metadata.json").write_text(json.dumps(metadata))
    return folder


def test_a_kernel_is_pushed_followed_fetched_and_deleted(kaggle: KaggleEmulator, cli: Cli, tmp_path: Path) -> None:
    kaggle.datasets.add("alice/reef-set", {"a.txt": b"1"})
    folder = kernel_folder(tmp_path / "kernel", dataset_sources=["alice/reef-set"])
    pushed = cli("kernels", "push", "-p", str(folder), "--accelerator", "NvidiaTeslaT4", "--timeout", "600")
    assert "Kernel version 1 successfully pushed" in pushed
    assert cli("kernels", "logs", "alice/my-first-run", "--follow") == "sees ['a.txt']\n"
    cli("kernels", "output", "alice/my-first-run", "-p", str(tmp_path / "out"))
    assert (tmp_path / "out" / "runs" / "train" / "results.csv").read_text() == "epoch"
    assert "sees" in (tmp_path / "out" / "my-first-run.log").read_text()
    session = kaggle.kernels["alice/my-first-run"].latest.session
    assert session is not None
    assert (session.plan.shape, session.plan.seconds) == ("NvidiaTeslaT4", 600)
    assert "deleted" in cli("kernels", "delete", "alice/my-first-run", "-y")


def test_a_dataset_is_created_and_downloaded(kaggle: KaggleEmulator, cli: Cli, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "data")
    assert "being created" in cli("datasets", "create", "-p", str(folder), "--dir-mode", "zip", "-q")
    until(lambda: kaggle.datasets["alice/reef-set"].newest.status == "READY")
    cli("datasets", "download", "alice/reef-set", "-p", str(tmp_path / "back"), "--unzip", "-q")
    assert (tmp_path / "back" / "images" / "a.jpg").read_text() == "jpg"
    assert (tmp_path / "back" / "empty.txt").read_text() == ""


@pytest.mark.slow
def test_a_dataset_gets_versions_and_is_deleted(kaggle: KaggleEmulator, cli: Cli, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "data")
    cli("datasets", "create", "-p", str(folder), "-q")
    until(lambda: kaggle.datasets["alice/reef-set"].newest.status == "READY")
    listed = cli("datasets", "files", "alice/reef-set", "--csv")
    assert [line.split(",")[0] for line in listed.splitlines()[1:]] == ["b.txt", "empty.txt"]
    (folder / "c.txt").write_text("c")
    assert "being created" in cli("datasets", "version", "-p", str(folder), "-m", "more", "-q")
    until(lambda: kaggle.datasets["alice/reef-set"].newest.status == "READY")
    told = cli("datasets", "status", "alice/reef-set", "--format", "json")
    assert json.loads(told) == {"status": "ready", "current_version_number": 2}
    cli("datasets", "download", "alice/reef-set", "-f", "c.txt", "-p", str(tmp_path / "back"), "-q")
    assert (tmp_path / "back" / "c.txt").read_text() == "c"
    assert "already in use" in cli("datasets", "create", "-p", str(folder), "-q")
    assert "alice/reef-set" in cli("datasets", "list", "-m")
    cli("datasets", "delete", "alice/reef-set", "-y")
    assert len(kaggle.datasets) == 0


@pytest.mark.slow
def test_a_tar_with_pax_headers_makes_the_dataset_fail(kaggle: KaggleEmulator, cli: Cli, tmp_path: Path) -> None:
    cli("datasets", "create", "-p", str(dataset_folder(tmp_path / "data")), "--dir-mode", "tar", "-q")
    until(lambda: kaggle.datasets["alice/reef-set"].newest.laid_out.is_set())
    until(lambda: cli("datasets", "status", "alice/reef-set").strip() == "failed")


@pytest.mark.slow
def test_kernels_are_looked_at_and_pulled(kaggle: KaggleEmulator, cli: Cli, tmp_path: Path) -> None:
    folder = kernel_folder(tmp_path / "kernel")
    cli("kernels", "push", "-p", str(folder))
    kaggle.kernels.wait("alice/my-first-run")
    assert '"KernelWorkerStatus.COMPLETE"' in cli("kernels", "status", "alice/my-first-run")
    assert "Cannot access kernel" in cli("kernels", "status", "alice/no-such-run", status=1)
    assert "alice/my-first-run" in cli("kernels", "list", "-m")
    assert "runs/train/results.csv" in cli("kernels", "files", "alice/my-first-run")
    assert json.loads(cli("kernels", "logs", "alice/my-first-run"))[0]["stream_name"] == "stdout"
    cli("kernels", "pull", "alice/my-first-run", "-m", "-p", str(tmp_path / "pulled"))
    assert (tmp_path / "pulled" / "my-first-run.py").read_text() == SCRIPT
    assert json.loads((tmp_path / "pulled" / "kernel-metadata.json").read_text())["title"] == "My first run"
    kaggle.accounts["alice"].gpu_used = 3600
    assert re.search(r"GPU +1.00h +29.00h +30.00h", cli("quota"))


@pytest.mark.slow
def test_a_refusal_in_a_good_reply_is_printed(kaggle: KaggleEmulator, cli: Cli, tmp_path: Path) -> None:
    kaggle.settings.max_cpu_sessions = 0
    assert "session count of 0 reached" in cli("kernels", "push", "-p", str(kernel_folder(tmp_path / "kernel")))
    kaggle.settings.max_cpu_sessions = 5
    folder = kernel_folder(tmp_path / "kernel", dataset_sources=["alice/none"])
    assert "not valid dataset sources" in cli("kernels", "push", "-p", str(folder))


@pytest.mark.slow
def test_a_log_that_is_cut_while_it_is_followed_comes_whole_and_once(
    kaggle: KaggleEmulator, cli: Cli, tmp_path: Path
) -> None:
    folder = kernel_folder(tmp_path / "kernel")
    lines = "import time\nfor number in range(5):\n    print('line', number, flush=True)\n    time.sleep(0.5)\n"
    (folder / "script.py").write_text(lines)
    kaggle.settings.queue_seconds = 1
    kaggle.faults.add("cut-log", at=200)
    cli("kernels", "push", "-p", str(folder))
    followed = cli("kernels", "logs", "alice/my-first-run", "--follow")
    assert re.findall(r"\d", followed) == list("01234")
    assert kaggle.counters.calls["logs"] == 2


@pytest.mark.slow
def test_an_upload_that_was_cut_is_made_whole(kaggle: KaggleEmulator, cli: Cli, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "data")
    (folder / "big.bin").write_bytes(bytes(range(256)) * 1000)
    kaggle.faults.add("cut-upload", on="big.bin", at=1000)
    cli("datasets", "create", "-p", str(folder), "-q")
    until(lambda: kaggle.datasets["alice/reef-set"].newest.status == "READY")
    assert (kaggle.datasets["alice/reef-set"].newest.folder / "big.bin").read_bytes() == bytes(range(256)) * 1000


@pytest.mark.slow
def test_a_token_and_oauth_credentials_work_as_well(kaggle: KaggleEmulator, cli: Cli, tmp_path: Path) -> None:
    account = kaggle.accounts["alice"]
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        del cli.env[name]
    cli.env["KAGGLE_API_TOKEN"] = account.token
    assert "GPU" in cli("quota")
    del cli.env["KAGGLE_API_TOKEN"]
    held = Path(cli.env["HOME"]) / ".kaggle" / "credentials.json"
    held.parent.mkdir()
    held.write_text(json.dumps({"refresh_token": account.refresh, "username": "alice"}))
    assert "GPU" in cli("quota")
    assert kaggle.counters.calls["GenerateAccessToken"] == 1


@pytest.mark.slow
def test_in_its_production_mode_over_tls(kaggle: KaggleEmulator, cli: Cli, tmp_path: Path) -> None:
    folder = kernel_folder(tmp_path / "kernel")
    with tls_proxy("api.kaggle.com", kaggle.endpoint, tmp_path) as (url, bundle):
        kept = {name: value for name, value in cli.env.items() if "PROXY" not in name.upper()}
        kept.pop("KAGGLE_API_ENVIRONMENT")
        cli.env = {**kept, "HTTPS_PROXY": url, "https_proxy": url, "REQUESTS_CA_BUNDLE": str(bundle)}
        assert "successfully pushed" in cli("kernels", "push", "-p", str(folder))
        assert "sees" in cli("kernels", "logs", "alice/my-first-run", "--follow")
        cli("kernels", "output", "alice/my-first-run", "-p", str(tmp_path / "out"))
    assert (tmp_path / "out" / "runs" / "train" / "results.csv").exists()
    assert kaggle.counters.calls["SaveKernel"] == 1
