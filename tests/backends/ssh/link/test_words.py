"""Words that arrive as they were given, through every login shell there is here, and what counts as an answer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backends.ssh.link.words import NOISE, Frame, command_line
from launcher.errors import RemoteError

SHELLS = [shell for shell in ("sh", "bash", "dash", "zsh", "ksh", "fish", "tcsh") if shutil.which(shell)]
SHOW = (sys.executable, "-c", "import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))")
NASTY = ["", " ", "; touch PWN", "$(touch PWN)", "`touch PWN`", "a'b", 'a"b', "\\", "a\\\\b", "!x!", "a\nb", "\n", "-n"]
NASTY += [
    "=ls",
    "~",
    "*",
    "%1",
    "{a,b}",
    "$HOME",
    "&& touch PWN",
    "| touch PWN",
    "> PWN",
    "#",
    "é€",
    "\udcff",
    "\x01\x7f",
]
WORDS = st.lists(
    st.one_of(st.sampled_from(NASTY), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)),
    min_size=1,
    max_size=5,
)


def through(shell: str, argv: list[str], folder: Path) -> tuple[int, list[bytes]]:
    """What arrives of the words after the first three when a login shell of this kind runs the line."""
    got = bytearray()
    frame = Frame(got.extend)
    done = subprocess.run([shell, "-c", command_line(argv, frame.mark)], cwd=folder, capture_output=True, check=False)
    frame.take(done.stdout)
    assert frame.close() == done.returncode, done
    return done.returncode, bytes(got).split(b"\0")


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("shell", SHELLS)
def test_every_nasty_word_arrives_as_it_was_given(shell: str, empty: Path) -> None:
    code, arrived = through(shell, [*SHOW, *NASTY], empty)
    assert (code, arrived) == (0, [word.encode("utf-8", "surrogateescape") for word in NASTY])
    for words in (["\\", "a\\\\b", "\\'"], ["!x!", "a!"], ["it's", "=ls", "$HOME"]):  # each in its own way of writing
        assert through(shell, [*SHOW, *words], empty)[1] == [word.encode() for word in words]
    assert not list(empty.iterdir())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=WORDS)
@example(words=["'\n'; touch PWN; '"])
@example(words=["_0101", "_"])
def test_any_words_arrive_as_they_were_given(words: list[str], empty: Path) -> None:
    assert through("sh", [*SHOW, *words], empty)[1] == [word.encode("utf-8", "surrogateescape") for word in words]
    assert not list(empty.iterdir())


@pytest.mark.parametrize("argv", [[], ["a\0b"], ["x" * 200_000], ["\n" * 30_000]])
def test_what_no_command_line_can_carry_is_refused(argv: list[str]) -> None:
    with pytest.raises(ValueError, match="command line"):
        command_line(argv, "0")


def framed(output: bytes, cut: int) -> tuple[int | None, bytes]:
    """The code and the output of a frame that gets `output` in two pieces; MARK in it stands for its mark."""
    got = bytearray()
    frame = Frame(got.extend)
    output = output.replace(b"MARK", frame.mark.encode())
    for piece in (output[:cut], output[cut:]):
        frame.take(piece)
    return frame.close(), bytes(got)


@given(
    noise=st.binary(max_size=50),
    body=st.binary(max_size=200),
    code=st.integers(0, 255),
    cut=st.integers(0, 400),
)
def test_only_what_the_command_printed_is_its_output(noise: bytes, body: bytes, code: int, cut: int) -> None:
    whole = noise + b"MARK\n" + body + b"MARK %d\n" % code
    assert framed(whole, cut) == (code, body)


@given(body=st.binary(max_size=100), missing=st.integers(1, 40))
def test_an_answer_without_its_end_has_no_exit_code(body: bytes, missing: int) -> None:
    got = bytearray()
    frame = Frame(got.extend)
    whole = b"%s\n" % frame.mark.encode() + body + b"%s 0\n" % frame.mark.encode()
    frame.take(whole[:-missing])
    assert frame.close() is None
    assert body.startswith(bytes(got))


def test_a_login_that_prints_without_end_is_an_error() -> None:
    frame = Frame(lambda _: None)
    with pytest.raises(RemoteError, match="login prints"):
        frame.take(b"x" * (NOISE + 1))
