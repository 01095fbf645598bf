"""The emulator as a process of its own, and what other processes can ask of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from google.cloud.storage import Client

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.emulators.storage", "--bucket", "reef", "--set", "page_limit=2"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(4)]
        for line in lines:
            name, _, value = line.removeprefix("export ").partition("=")
            monkeypatch.setenv(name, value)
        yield os.environ["STORAGE_EMULATOR_HOST"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_it_is_told_faults_and_tells_its_requests(endpoint: str) -> None:
    def tell(path: str, **body: Any) -> urllib3.BaseHTTPResponse:
        return urllib3.request("POST", f"{endpoint}/_emulator/{path}", body=json.dumps(body))

    assert tell("faults", kind="503", on="storage.objects.insert", times=1).status == 200
    assert tell("faults", kind="nonsense").status == 400
    assert tell("settings", nonsense=1).status == 400
    client = Client()
    client.get_bucket("reef")
    for name in "abc":
        client.bucket("reef").blob(name).upload_from_string(name)
    assert [blob.name for blob in client.list_blobs("reef")] == ["a", "b", "c"]
    calls = urllib3.request("GET", f"{endpoint}/_emulator/requests").json()
    assert [(call["operation"].removeprefix("storage.objects."), call["status"]) for call in calls] == [
        ("storage.buckets.get", 200),
        ("insert", 503),
        *[("insert", 200)] * 3,
        *[("list", 200)] * 2,
    ]
    assert tell("clear").status == 200
    assert urllib3.request("GET", f"{endpoint}/_emulator/requests").json() == []
