"""Who to reach, as a user writes it."""

from __future__ import annotations

import json

import pytest

from backends.ssh.link import Where
from launcher.errors import SpecError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("gpubox", Where("gpubox")),
        ("ann@gpubox", Where("gpubox", "ann")),
        ("ann@10.0.0.5:2222", Where("10.0.0.5", "ann", 2222)),
        ("ann@[fe80::1%eth0]:22", Where("fe80::1%eth0", "ann", 22)),
        ("ssh://ann@gpubox:2222/", Where("gpubox", "ann", 2222)),
    ],
)
def test_a_host_is_read_as_ssh_reads_it(text: str, found: Where) -> None:
    assert Where.of(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "-oProxyCommand=x",
        "-l@host",
        "a@b@c",
        "host:",
        "host:0",
        "host:65536",
        "host:x",
        "a\nb",
        "a;b",
        "$(b)",
        "a`b`@h",
        "h|b",
        "h&",
    ],
)
def test_what_is_no_host_is_an_error_of_the_spec(text: str) -> None:
    with pytest.raises(SpecError):
        Where.of(text)


def test_it_goes_through_json() -> None:
    where = Where("h", "u", 2222, ("~/.ssh/key",), "nc %h %p", ("ssh-ed25519 AAAA",))
    assert Where.from_json(json.loads(json.dumps(where.to_json()))) == where
    assert str(where) == "u@h:2222"
