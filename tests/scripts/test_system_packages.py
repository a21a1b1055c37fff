"""What the project needs of the system, its own script installs; no test is left out because a program is missing."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = ["libgl1", "libglib2.0-0", "nginx-light", "libnginx-mod-stream"]
ALL = [*RUN, "iproute2", "chromium", "systemd", "docker-compose"]


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The programs of a machine on which nothing is installed, whose user is no root and has no apt."""
    play(tmp_path, "ldconfig", "")
    play(tmp_path, "id", "echo 1000")
    for name in ("grep", "printf", "chmod", "rm"):
        (tmp_path / name).symlink_to(shutil.which(name) or "/bin/true")
    return tmp_path


def play(system: Path, name: str, script: str) -> None:
    (system / name).write_text(f"#!/bin/sh\n{script}\n")
    (system / name).chmod(0o755)


def packages(system: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [shutil.which("bash") or "bash", str(ROOT / "scripts" / "system-packages"), *arguments]
    return subprocess.run(command, env={"PATH": str(system)}, capture_output=True, text=True)


def test_who_may_not_install_is_told_what_to(system: Path) -> None:
    said = packages(system)
    assert said.returncode == 1
    assert said.stderr == f"these Debian packages are missing: apt-get install {' '.join(ALL)}\n"
    assert packages(system, "libraries", "nginx").stderr.split()[-5:] == ["install", *RUN]
    assert packages(system, "libraries").stderr.split()[-3:] == ["install", *RUN[:2]]
    assert "got everything" in packages(system, "everything").stderr


def test_what_is_missing_is_installed_and_what_is_there_is_not(system: Path) -> None:
    for name in ("chromium", "ip", "tc", "systemd-analyze", "docker-compose"):
        play(system, name, "")
    play(system, "id", "echo 0")
    play(system, "apt-get", f'[ "$1" = update ] || echo "$@" >>{system}/asked')
    play(system, "nginx", f"echo '--modules-path={system} --with-stream=dynamic --with-threads' >&2")
    said = packages(system)
    assert said.returncode == 0, said.stderr
    asked = (system / "asked").read_text()
    assert asked.split()[-3:] == [RUN[0], RUN[1], RUN[3]] and "--no-install-recommends" in asked
    play(system, "ldconfig", "echo libGL.so.1; echo libgthread-2.0.so.0")
    (system / "ngx_stream_module.so").touch()
    play(system, "apt-get", "exit 1")
    assert packages(system).returncode == 0
    (system / "ngx_stream_module.so").unlink()
    assert packages(system).returncode != 0  # apt could not
    play(system, "nginx", "echo '--with-stream --with-threads' >&2")
    assert packages(system).returncode == 0


def test_all_tests_begin_with_what_they_need_of_the_system() -> None:
    assert '/system-packages"\n' in (ROOT / "scripts" / "test").read_text()
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("scripts/test")
    assert os.access(ROOT / "scripts" / "system-packages", os.X_OK)


def test_no_test_is_left_out_because_a_program_is_missing() -> None:
    for file in {*(ROOT / "tests").rglob("*.py")} - {Path(__file__)}:
        for line in file.read_text().splitlines():
            assert not re.search(r"skip(if)?\(.*which|skip(if)?\(.*there is no (?!IPv6)", line), f"{file}: {line}"
