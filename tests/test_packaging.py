"""What is declared about the package, and the wheel as another machine installs it."""

import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
from flwr.cli.build import build_fab_from_disk
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fedpolyp import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONSTRAINTS = (ROOT / "constraints.txt").read_text().splitlines()
PACKAGES = ("fedpolyp", "clients", "server")


def test_constraints_are_names_and_versions_only() -> None:
    for line in CONSTRAINTS:
        assert re.fullmatch(r"[\w.-]+==\d[\w.]*", line), line


def test_constraints_pin_every_declared_dependency_within_its_range() -> None:
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in CONSTRAINTS)}
    extras = PROJECT["project"]["optional-dependencies"].values()
    for line in [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), line


@pytest.mark.slow
def test_what_is_pinned_resolves_to_an_accountant_that_is_maintained() -> None:
    """With a later attrs pip would go back to dp-accounting 0.0.2, silently."""
    asked = ["install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    pinned = ["--constraint", str(ROOT / "constraints.txt"), "dp-accounting", "jsonschema"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *asked, *pinned], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {one["metadata"]["name"].lower(): one["metadata"]["version"] for one in json.loads(done.stdout)["install"]}
    assert found["dp-accounting"] == "0.6.0" and found["attrs"] == "23.2.0"
    checked = subprocess.run([*pip, "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_package_and_its_metadata_have_one_version() -> None:
    assert PROJECT["project"]["version"] == __version__


def test_flower_finds_the_apps_that_are_declared() -> None:
    for reference in PROJECT["tool"]["flwr"]["app"]["components"].values():
        module, name = reference.split(":")
        assert hasattr(importlib.import_module(module), name)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_git_ignores_no_file_that_travels_in_flowers_app_bundle() -> None:
    files = [path for folder in PACKAGES for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".typed")]
    asked = ["git", "check-ignore", "--no-index", *map(str, files)]
    ignored = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ignored.returncode, ignored.stdout) == (1, ""), ignored.stderr  # 1: none of them; 128: git failed


def test_flowers_app_bundle_holds_every_module_of_every_package(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path)
    with ZipFile(io.BytesIO(build_fab_from_disk(tmp_path))) as bundle:
        travels = {name for name in bundle.namelist() if name.endswith(".py")}
    modules = {str(path.relative_to(tmp_path)) for name in PACKAGES for path in (tmp_path / name).rglob("*.py")}
    assert travels == modules and len(modules) > 100
    for folder in {path.parent for path in (ROOT / "fedpolyp").rglob("*.py")}:
        assert (folder / "__init__.py").exists(), folder


def test_the_library_knows_nothing_of_flower_ray_clients_or_server() -> None:
    outer = {path for package in ("simulation", "cli") for path in (ROOT / "fedpolyp" / package).rglob("*.py")}
    inner = set((ROOT / "fedpolyp").rglob("*.py")) - outer
    assert len(outer) > 10 and len(inner) > 100
    for path in inner:
        assert not re.search(r"^\s*(from|import) (flwr|ray|clients|server)\b", path.read_text(), re.M), path


@pytest.mark.slow
def test_the_wheel_simulates_outside_the_checkout(tmp_path: Path) -> None:
    # Built from a copy: a build in the checkout leaves build/ there, and what is stale in it gets into later wheels.
    source, wheels, home = tmp_path / "source", tmp_path / "wheels", tmp_path / "home"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = ["-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, *pip, "wheel", "--no-deps", "--wheel-dir", wheels, source], check=True)
    (wheel,) = wheels.glob("fedpolyp-*.whl")
    with ZipFile(wheel) as content:
        travels = {name for name in content.namelist() if ".dist-info/" not in name}
    assert travels == {
        str(path.relative_to(source)) for package in PACKAGES for path in (source / package).rglob("*.*")
    }

    venv.create(home, with_pip=True)
    # Without PYTHONPATH, which could lead back to the checkout.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    constraints = str(ROOT / "constraints.txt")
    install = [str(home / "bin" / "python"), *pip, "install", "--constraint", constraints, str(wheel)]
    subprocess.run(install, check=True, cwd=tmp_path, env=environment)
    command = "simulate --rounds 1 --hospitals 2 --phantom-images 40 --image-size 32 --base-filters 2 --out run".split()
    done = subprocess.run(
        [home / "bin" / "fedpolyp", *command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run" / "rounds.jsonl").read_text().splitlines()) == 2
