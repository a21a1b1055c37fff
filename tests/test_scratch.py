"""The folder of Ray's sockets and logs."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedpolyp import scratch
from fedpolyp.errors import UsageError

ROOT = Path(__file__).parents[1]
SOCKET = "session_2026-01-31_23-59-59_123456_1234567/sockets/plasma_store"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files with a short name."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as name:
        monkeypatch.delenv("RAY_TMPDIR", raising=False)
        monkeypatch.setenv("TMPDIR", name)
        yield Path(name)


def test_it_lies_among_the_users_temporary_files_closed_to_others_and_goes(short: Path) -> None:
    with scratch.folder() as folder:
        assert folder.parents[1] == short and folder.is_dir()
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        assert len(os.fsencode(folder / SOCKET)) <= 107
        (folder / "logs").mkdir()
    assert list(short.iterdir()) == []


def test_a_deep_folder_for_temporary_files_gives_way_to_a_shorter_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("deep" * 20)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    with scratch.folder() as folder:
        assert len(os.fsencode(folder / SOCKET)) <= 107
        assert not folder.is_relative_to(deep)
    monkeypatch.setattr(scratch, "_ELSEWHERE", ())
    with (
        pytest.raises(UsageError, match=r"a path of at most \d+ characters.* is too long; set RAY_TMPDIR"),
        scratch.folder(),
    ):
        pass


def test_what_a_killed_process_left_goes_with_the_next_and_nothing_else(short: Path) -> None:
    script = "import os; from fedpolyp.scratch import folder\nwith folder() as f: print(f, flush=True); os.abort()"
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    left = Path(killed.stdout.strip())
    assert left.is_dir()
    other = short / "fedpolyp-ray-notebook"
    other.mkdir()
    (other / "notes").touch()
    with scratch.folder() as mine:
        assert not left.exists() and (other / "notes").exists()
        with scratch.folder():
            assert mine.is_dir()
        assert mine.is_dir()


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import pwd, sys\ndef none(*_): raise KeyError\npwd.getpwuid = pwd.getpwnam = none\n"
        "from fedpolyp.__main__ import main\nsys.argv = ['fedpolyp', 'data', 'show', *sys.argv[1:]]\nmain()"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "FEDPOLYP_STORES")}
    for stores, said in (({}, "neither HOME nor"), ({"FEDPOLYP_STORES": "~nobody-here/x"}, "is '~nobody-here/x'")):
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            env=environment | stores,
            cwd=ROOT,
        )
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1 and said in done.stderr and "set FEDPOLYP_STORES" in done.stderr
