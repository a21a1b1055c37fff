"""A file that is written is whole or as it was before."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpolyp.files import replacing, write_text


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8")))
def test_write_text_writes_utf8_as_it_is(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("text") / "file"
    write_text(path, text)
    assert path.read_bytes().decode() == text


def test_the_old_content_stays_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with replacing(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("before", ["old", None])
def test_an_exception_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, error: type[BaseException], before: str | None
) -> None:
    path = tmp_path / "file"
    if before is not None:
        write_text(path, before)
    with pytest.raises(error), replacing(path) as stream:  # noqa: PT012  # the block is what is tested
        stream.write(b"half of it")
        raise error
    assert {known.name: known.read_text() for known in tmp_path.iterdir()} == ({"file": before} if before else {})


def test_a_failed_replacement_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    (path / "inside").mkdir(parents=True)
    with pytest.raises(IsADirectoryError), replacing(path) as stream:
        stream.write(b"a file cannot take a folder's place")
    assert list(tmp_path.iterdir()) == [path]


def test_success_leaves_the_file_alone_in_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on the way" / "file"
    write_text(path, "new")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_who_may_read_the_file_is_as_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    path, before = tmp_path / "file", os.umask(umask)
    try:
        write_text(path, "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_the_bytes_are_on_disk_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, told = tmp_path / "file", []
    sync = os.fsync

    def note(handle: int) -> None:
        told.append((os.fstat(handle).st_size, path.exists()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    write_text(path, "four")
    assert told[0] == (4, False)
