import importlib
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from fedpolyp import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_constraints_pin_every_declared_dependency_and_name_no_host() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines)
    declared = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["test"]
    names = {re.split(r"[\[<>=]", requirement)[0] for requirement in declared}
    assert names <= {name.lower() for name in pins}
    assert not any("/" in line or "@" in line for line in lines)


def test_the_package_and_its_metadata_have_one_version() -> None:
    assert PROJECT["project"]["version"] == __version__


def test_flower_finds_the_apps_that_are_declared() -> None:
    for reference in PROJECT["tool"]["flwr"]["app"]["components"].values():
        module, name = reference.split(":")
        assert hasattr(importlib.import_module(module), name)


def test_every_module_travels_in_flowers_app_bundle() -> None:
    modules = [path for folder in ("fedpolyp", "clients", "server") for path in (ROOT / folder).rglob("*.py")]
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", *map(str, modules)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ignored.stdout == ""


def test_the_library_knows_nothing_of_flower_ray_clients_or_server() -> None:
    outer = {ROOT / "fedpolyp" / "simulation.py", *(ROOT / "fedpolyp" / "cli").glob("*.py")}
    for path in set((ROOT / "fedpolyp").rglob("*.py")) - outer:
        assert not re.search(r"^\s*(from|import) (flwr|ray|clients|server)\b", path.read_text(), re.M), path


@pytest.mark.slow
def test_the_wheel_simulates_outside_the_checkout(tmp_path: Path) -> None:
    wheels, home = tmp_path / "wheels", tmp_path / "home"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(ROOT)], check=True)
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    (wheel,) = wheels.glob("fedpolyp-*.whl")
    install = [str(python), *pip[1:], "install", "--constraint", str(ROOT / "constraints.txt"), str(wheel)]
    subprocess.run(install, check=True, cwd=tmp_path)
    command = "simulate --rounds 1 --hospitals 2 --phantom-images 40 --image-size 32 --base-filters 2 --out run".split()
    done = subprocess.run([str(home / "bin" / "fedpolyp"), *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run" / "rounds.jsonl").read_text().splitlines()) == 2
