"""What is on disk after a restart that did not get far: another kill, or none, and nothing is lost."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from launcher.sync.manifest import Manifest, parse
from launcher.worker.training.checkpoint import TARGETS
from tests.worker.laid import ROOT, Laid, until

SLOW_THEN = f"""
import runpy
if restart == {{restart}}:
    os.environ["SAMERUN_STUB_EPOCH_S"] = "60"
runpy.run_path({str(ROOT / "launcher/testing/payload.py")!r}, run_name="__main__")
"""


def whole(box: Laid) -> Manifest:
    """The manifest on disk, whose files all hold their digests."""
    found = parse((box.root / "out/manifest.json").read_bytes())
    for entry in found.files:
        data = (box.root / "out" / entry.at).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry.size, entry.sha256), entry.path
    assert {entry.path for entry in found.files} == {*TARGETS.values()}
    return found


def test_trainer_killed_and_then_the_supervisor_before_the_next_epoch_ends(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box", SLOW_THEN.format(restart=1))
    supervisor = box.start(SAMERUN_STUB_KILL_EPOCH="2")
    until(lambda: len(box.named("started")) == 2)
    supervisor.kill()
    supervisor.wait(5)
    until(lambda: not box.held)
    assert whole(box).epoch == 1
    before = (box.root / "out/checkpoint/000001/args.yaml").read_bytes()
    assert (box.root / "out/train/args.yaml").read_bytes() != before, "the restarted process wrote another"


def test_the_machine_is_gone_before_the_first_epoch_of_an_attempt_that_goes_on(tmp_path: Path) -> None:
    first = Laid(tmp_path / "first")
    assert first.run(SAMERUN_STUB_FAIL_EPOCH="3") == 1
    sent = whole(first)
    box = Laid(tmp_path / "box", SLOW_THEN.format(restart=0))
    (box.root / "in/resume").mkdir()
    for entry in sent.files:
        shutil.copyfile(first.root / "out" / entry.at, box.root / "in/resume" / Path(entry.path).name)
    files = [{"path": entry.path, "sha256": entry.sha256, "size": entry.size} for entry in sent.files]
    box.describe(resume={"epoch": sent.epoch, "stop": False, "files": files})
    supervisor = box.start()
    until(lambda: box.named("started"))
    supervisor.kill()
    supervisor.wait(5)
    until(lambda: not box.held)
    assert whole(box).epoch == sent.epoch == 2


def test_the_first_event_says_that_it_is_getting_ready(tmp_path: Path) -> None:
    box = Laid(tmp_path / "box")
    assert box.run() == 0
    assert [event["event"] for event in box.events][:2] == ["preparing", "started"]


@pytest.mark.parametrize(("job", "attempt"), [(0.3, 1e-7), (1e-7, 0.3), (None, 1e-7)])
def test_the_smaller_limit_holds(tmp_path: Path, job: float | None, attempt: float) -> None:
    box = Laid(tmp_path / "box", max_hours=job)
    box.describe(max_hours=attempt)
    assert box.run() == 75
    assert box.exit["outcome"] == "expired"
    assert box.epochs() == [1]
    assert "1e-07" in box.exit["reason"]


def test_what_a_backend_sends_as_secret_is_redacted_and_does_not_reach_the_training(tmp_path: Path) -> None:
    payload = """
import json
print("SAMERUN_SECRETS" in os.environ, os.environ["URL"], flush=True)
emit("tell", text=os.environ["URL"], quoted=json.dumps('pa"ss word'))
"""
    box = Laid(tmp_path / "box", payload)
    secrets = json.dumps(["t0ken-of-mine", 'pa"ss word', "1", 7])
    assert box.run(30.0, SAMERUN_SECRETS=secrets, URL='https://me:t0ken-of-mine@host1/?pa"ss word') == 0
    assert box.log == ["False https://me:***@host1/?***"]
    assert box.named("tell")[0]["text"] == "https://me:***@host1/?***"
    assert "ss word" not in (box.root / "out/stream.log").read_text()


@pytest.mark.parametrize("sent", ["no-json-at-all", '{"a": 1}', "[" * 9000])
def test_secrets_that_are_no_list_are_a_secret(tmp_path: Path, sent: str) -> None:
    box = Laid(tmp_path / "box", "print(os.environ['SAID'], 'SAMERUN_SECRETS' in os.environ)")
    assert box.run(30.0, SAMERUN_SECRETS=sent, SAID=sent) == 0
    assert box.log == ["*** False"]
