"""Settings: the environment over config.toml over defaults, and what is wrong with them said."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.errors import SpecError
from launcher.settings import Settings


def config(home: Path, text: str) -> dict[str, str]:
    file = home / ".config" / "samerun" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return {"HOME": str(home)}


def test_the_environment_is_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    env = config(tmp_path, 'cache_dir = "/cache"\nkaggle_session_hours = 9\nkaggle_poll_seconds = 5\n')
    found = Settings.load({**env, "SAMERUN_KAGGLE_POLL_SECONDS": "1.5"})
    assert (found.cache_dir, found.kaggle_session_hours, found.kaggle_poll_seconds) == (Path("/cache"), 9.0, 1.5)
    assert found.runs_dir == Path("runs").absolute()
    plain = Settings.load({"HOME": str(tmp_path / "nobody")})
    assert plain.cache_dir == tmp_path / "nobody" / ".cache" / "samerun"
    assert (plain.kaggle_session_hours, plain.kaggle_endpoint, plain.payload) == (11.5, None, None)


@pytest.mark.parametrize("value", ["0", "-1", "soon", "inf", "nan"])
def test_a_number_that_is_none_is_refused_by_name(tmp_path: Path, value: str) -> None:
    with pytest.raises(SpecError, match="kaggle_session_hours") as caught:
        Settings.load({"HOME": str(tmp_path), "SAMERUN_KAGGLE_SESSION_HOURS": value})
    assert "SAMERUN_KAGGLE_SESSION_HOURS" in str(caught.value)


def test_an_unknown_setting_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="unknown setting"):
        Settings.load(config(tmp_path / "one", 'run_dir = "/x"\n'))
    with pytest.raises(SpecError, match="is not TOML"):
        Settings.load(config(tmp_path / "two", "runs_dir = \n"))


def test_without_a_home_folder_there_is_a_cache_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(self: Path) -> Path:
        if str(self).startswith("~"):
            raise RuntimeError("Could not determine home directory.")
        return self

    monkeypatch.setattr(Path, "expanduser", nobody)
    found = Settings.load({})
    assert found.cache_dir.is_absolute()
    assert found.cache_dir.parts[-2:] == (".cache", "samerun")
