"""A file that is written is whole or as it was before."""

import fcntl
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.files import (
    append_text,
    is_locked,
    parse_json,
    read_bytes,
    read_json,
    read_toml,
    replacing,
    sole,
    to_json,
    write_text,
)


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


def test_json_has_no_nan_and_no_infinity() -> None:
    value = {"a": float("nan"), "b": [1.5, float("-inf"), (float("inf"),)], "c": {"d": True}}
    assert json.loads(to_json(value)) == {"a": None, "b": [1.5, None, [None]], "c": {"d": True}}


def test_what_is_no_number_is_nothing_when_it_is_read() -> None:
    assert parse_json('{"loss": NaN, "x": [Infinity, 1]}') == {"loss": None, "x": [None, 1]}


DEEP, HUGE = "[" * 100_000, "1" * 5000


@pytest.mark.parametrize("content", ["", "{", DEEP, f'{{"x": {HUGE}}}', "\udcff"])
def test_what_is_not_json_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(FedpolypError, match=f"^{path} is not valid JSON: "):
        read_json(path, 10**6)


@pytest.mark.parametrize(
    "content",
    [
        "x = " + DEEP[:30_000],
        f"x = {HUGE}",
        "x = " + "{a=" * 5000,
        "\ufeff\ufeffx = 1",
        ".".join("a" * 20_000) + "=1",
        "\x00",
    ],
)
def test_what_is_not_toml_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=f"^{path} is not valid TOML: "):
        read_toml(path)


def test_a_byte_order_mark_before_toml_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbfseed = 3\r\n")
    assert read_toml(tmp_path / "x.toml") == {"seed": 3}


def test_a_file_of_settings_of_megabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"# a comment\n" * 900_000)
    with pytest.raises(UsageError, match=f"^cannot read the config file {path}: it is larger than 64 KB$"):
        read_toml(path, "the config file ")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, why in (("pipe", "not a regular file"), ("zero", "not a regular file"), (".", "Is a directory")):
        with pytest.raises(OSError, match=why):
            read_bytes(tmp_path / name, 100)


def test_a_lock_follows_no_link_and_truncates_nothing(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "link").symlink_to(precious)
    with pytest.raises(FedpolypError, match="it is a link"), sole(tmp_path / "link", "taken"):
        pass
    with pytest.raises(FedpolypError, match="it is a link"):
        is_locked(tmp_path / "link")
    with sole(precious, "taken"):
        assert is_locked(precious)
    assert precious.read_text() == "kept"


def test_who_only_looks_at_a_lock_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lock").touch()
    with (tmp_path / "lock").open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)  # as `is_locked` does for a moment
        monkeypatch.setattr("fedpolyp.files.time.sleep", lambda seconds: fcntl.flock(looking, fcntl.LOCK_UN))
        with sole(tmp_path / "lock", "taken"):
            assert is_locked(tmp_path / "lock")


def test_a_lock_that_stays_taken_is_told_after_a_few_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("fedpolyp.files.time.sleep", pauses.append)
    with (
        sole(tmp_path / "lock", "taken"),
        pytest.raises(FedpolypError, match="^taken$"),
        sole(tmp_path / "lock", "taken"),
    ):
        pass
    assert 0 < sum(pauses) < 1


def test_text_is_appended_through_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "link").symlink_to(precious)
    with pytest.raises(OSError):
        append_text(tmp_path / "link", "more")
    append_text(precious, ", more")
    assert precious.read_text() == "kept, more"


def test_a_number_of_thousands_of_digits_in_toml_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("a = " + "1" * 5000)
    with pytest.raises(UsageError, match="not valid TOML: a number has thousands of digits$"):
        read_toml(tmp_path / "a.toml")
