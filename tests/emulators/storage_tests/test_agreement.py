"""The emulator agrees with what Google's storage-testbench was recorded to say, but for the differences it names."""

from __future__ import annotations

import copy

import pytest

from tests.emulators.storage import StorageEmulator
from tests.emulators.storage.agreement.__main__ import complaints, recorded
from tests.emulators.storage.agreement.cases import CASES
from tests.emulators.storage.agreement.compare import Seen, run


@pytest.fixture
def ours(storage: StorageEmulator) -> dict[str, list[Seen]]:
    return {name: run(storage.endpoint, name) for name in CASES}


def test_it_differs_in_nothing_but_what_is_named(ours: dict[str, list[Seen]]) -> None:
    assert recorded().keys() == CASES.keys()
    assert complaints(ours, recorded()) == []


def test_a_new_difference_and_one_that_is_gone_are_said(ours: dict[str, list[Seen]]) -> None:
    other = copy.deepcopy(ours)
    other["insert if absent"][1]["status"] = 200
    found = complaints(other, recorded())
    assert found == ["insert if absent, step 2, status: ours 200, the testbench's 412"]
    other = copy.deepcopy(ours)
    other["generations"][4] = recorded()["generations"][4]
    assert any("overwritten generation is gone" in text for text in complaints(other, recorded()))
