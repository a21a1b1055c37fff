"""`fedpolyp site join`: what it shows and makes, without Flower's programs."""

import os
import stat
from pathlib import Path

import pytest

from clients import worker
from fedpolyp.cli.site import join
from fedpolyp.errors import FedpolypError
from fedpolyp.files import sole, write_text
from tests.cli.site.called import fedpolyp


def test_join_shows_the_supernode_with_the_sites_own_key_and_folder(deploy: Path, tmp_path: Path) -> None:
    said = fedpolyp("join", "--folder", str(deploy / "oslo"), "--data", str(tmp_path / "pictures"), "--print-command")
    assert f"--auth-supernode-private-key={deploy / 'oslo' / 'site.key'}" in said
    assert f'site="{deploy / "oslo" / "site.toml"}" data="{tmp_path / "pictures"}"' in said


def test_join_begins_without_what_an_earlier_start_left_by_half_and_makes_files_for_its_user_alone(
    deploy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oslo = deploy / "oslo"
    kept = oslo / "private"
    (kept / "flower" / "apps" / "half").mkdir(parents=True)
    (kept / "flower" / "worker.json").write_bytes(b"")  # of a power cut
    for folder in (oslo, kept):
        folder.chmod(0o755)  # scp or zip lose the mode
    monkeypatch.setenv(worker.JOINED, "")

    def stay(*_: object) -> None:
        assert not (kept / "flower" / "apps").exists() and not (kept / "flower" / "worker.json").exists()
        write_text(kept / "state" / "000001.npz", "moments")

    monkeypatch.setattr(join, "keep_running", stay)
    before = os.umask(0o022)
    try:
        fedpolyp("join", "--folder", str(oslo), "--data", str(tmp_path))
    finally:
        os.umask(before)
    for made in ("state", "state/000001.npz"):
        assert stat.S_IMODE((kept / made).stat().st_mode) & 0o077 == 0


def test_a_second_join_of_a_site_is_refused_and_harms_nothing(
    deploy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps = deploy / "oslo" / "private" / "flower" / "apps"
    apps.mkdir(parents=True)
    monkeypatch.setattr(join, "keep_running", lambda *_: pytest.fail("it joined"))
    with (
        sole(deploy / "oslo" / "private" / ".lock", "another test"),
        pytest.raises(FedpolypError, match="'site join' is already running in .*oslo"),
    ):
        fedpolyp("join", "--folder", str(deploy / "oslo"), "--data", str(tmp_path))
    assert apps.is_dir()


def test_what_fails_before_the_program_starts_names_no_folder_of_the_site(deploy: Path, tmp_path: Path) -> None:
    said = fedpolyp("join", "--folder", str(deploy / "oslo"), "--data", str(tmp_path), "--print-command")
    assert f"cd {deploy / 'oslo'} && FLWR_HOME=/proc/self/cwd/private/flower " in said
