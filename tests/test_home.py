"""All that histoflow writes lies under one folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from histoflow import home as homes
from histoflow.errors import HomeError
from permissions import permissions_hold


def test_the_variable_names_the_home(home: Path) -> None:
    assert homes.folder() == home
    assert homes.runs() == home / "runs"
    assert homes.runs().is_dir()


def test_without_the_variable_it_is_the_platforms_folder_for_user_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HISTOFLOW_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert "histoflow" in str(homes.folder())


def test_a_home_that_cannot_be_written_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HISTOFLOW_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(HomeError, match="cannot write to its home .*Set HISTOFLOW_HOME to a folder"):
        homes.runs()


def test_a_home_without_permission_is_told_likewise(home: Path) -> None:
    home.chmod(0o555)
    with (
        permissions_hold(),
        pytest.raises(HomeError, match=r"cannot write to its home .*: Permission denied"),
    ):
        homes.runs()
    home.chmod(0o755)
