"""Run folders are made whole or not at all, and are found again."""

from datetime import datetime
from pathlib import Path

import pytest

from fedpolyp import runs
from fedpolyp.config import Config, load
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.errors import UsageError

PARTITION = Partition(("a",), {"hospital-1": HospitalImages(("b",), ("c",), ("d",))})


def config() -> Config:
    return load(overrides={"data.source": "/somewhere/kvasir/", "hospitals.count": 7, "seed": 3})


def test_a_created_run_gives_back_its_config_and_partition(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "made on the way" / "run", config(), PARTITION)
    assert (run.config(), run.partition(), run.rounds()) == (config(), PARTITION, [])
    assert run.name == "run"
    assert run.checkpoints.is_dir()


def test_a_run_is_made_in_an_empty_folder_but_never_over_something(tmp_path: Path) -> None:
    runs.create(tmp_path, config(), PARTITION)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(UsageError) as refusal:
        runs.create(tmp_path, Config(), PARTITION)
    assert str(refusal.value) == (
        f"{tmp_path} already exists; choose another --out, or resume that run: --resume {tmp_path}"
    )
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    with pytest.raises(UsageError, match="config.toml is a file; --out must be a folder"):
        runs.create(tmp_path / "config.toml", config(), PARTITION)
    with pytest.raises(UsageError, match="holds something other than a run; choose another --out$"):
        runs.create(tmp_path.parent, config(), PARTITION)


def test_a_run_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=f"^cannot make the run folder {tmp_path / 'file' / 'run'}: File exists$"):
        runs.create(tmp_path / "file" / "run", config(), PARTITION)


def test_a_run_that_is_cut_short_while_it_is_made_never_looks_like_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(path: Path, text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fedpolyp.files.write_text", die)
    with pytest.raises(KeyboardInterrupt):
        runs.create(tmp_path / "run", config(), PARTITION)
    monkeypatch.undo()
    assert not (tmp_path / "run").exists()
    runs.create(tmp_path / "run", config(), PARTITION)


def test_a_run_is_found_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = runs.create(tmp_path / "runs" / "first", config(), PARTITION)
    assert runs.find(str(made.path)) == runs.find("first", tmp_path / "runs") == made
    monkeypatch.chdir(tmp_path)
    assert runs.find("first").path.resolve() == runs.find("runs/first").path.resolve() == made.path.resolve()


def test_a_folder_that_is_no_run_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "runs" / "other").mkdir(parents=True)
    with pytest.raises(UsageError) as refusal:
        runs.find("other", tmp_path / "runs")
    assert str(refusal.value) == (
        f"there is no run 'other': neither other nor {tmp_path / 'runs' / 'other'} holds a config.toml"
    )


def test_a_new_name_sorts_by_time_and_says_what_is_in_it() -> None:
    assert runs.new_name(config(), datetime(2026, 1, 31, 23, 59, 58)) == "20260131-235958-kvasir-7-hospitals"
    assert runs.new_name(Config(), datetime(2026, 2, 1)) == "20260201-000000-phantom-5-hospitals"
