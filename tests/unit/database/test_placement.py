"""Which folders and files a user reaches, by mode bits."""

import os
import pwd
from pathlib import Path

import pytest

from services.runtime.postgres.placement import Account, choose_account, place_socket, remove_home

STRANGER = Account("stranger", 12345, 12345)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    return inner


def myself() -> Account:
    entry = pwd.getpwuid(os.geteuid())
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def test_a_closed_parent_closes_what_is_open_below(folder: Path) -> None:
    account = myself()
    folder.chmod(0o755)
    assert account.can_enter(folder)
    folder.parent.chmod(0o600)
    try:
        assert not account.can_enter(folder)
    finally:
        folder.parent.chmod(0o755)


@pytest.mark.parametrize(
    ("mode", "owner", "group", "other"),
    [(0o400, True, False, False), (0o040, False, True, False), (0o004, False, False, True)],
)
def test_owner_group_and_others_each_by_their_own_bits(
    tmp_path: Path, mode: int, owner: bool, group: bool, other: bool
) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    uid, gid = path.stat().st_uid, path.stat().st_gid
    assert Account("owner", uid, gid).can_read(path) is owner
    assert Account("member", 12345, gid).can_read(path) is group
    assert STRANGER.can_read(path) is other


def test_an_ordinary_user_runs_the_server_himself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = pwd.getpwnam("daemon")
    monkeypatch.setattr(os, "geteuid", lambda: daemon.pw_uid)
    assert choose_account(tmp_path / "cluster", "nobody").uid == daemon.pw_uid


def test_socket_path_is_never_too_long(tmp_path: Path) -> None:
    home = tmp_path / ("x" * 90)
    home.mkdir()
    short = place_socket(home, myself())
    assert len(str(short / ".s.PGSQL.5432")) < 104
    assert place_socket(home, myself()) == short
    remove_home(home)
    assert not short.exists()
