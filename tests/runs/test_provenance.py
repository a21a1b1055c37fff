"""What a run says of where and with what it was made."""

import json
import subprocess
from datetime import datetime
from pathlib import Path

from fedpolyp import __version__, runs
from fedpolyp.config import Config, load
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.runs.provenance import _commit

PARTITION = Partition(("a",), {"hospital-1": HospitalImages(("b",), ("c",), ("d",))})


def config() -> Config:
    return load(overrides={"data.source": "/somewhere/kvasir/", "hospitals.count": 7, "seed": 3})


def test_a_created_run_says_where_and_with_what_it_was_made(tmp_path: Path) -> None:
    told = json.loads((runs.create(tmp_path / "run", config(), PARTITION).path / "environment.json").read_text())
    assert told["packages"]["fedpolyp"] == __version__
    assert told["packages"].keys() >= {"tensorflow", "flwr", "numpy"}
    assert told["python"] and told["processor"] and told["cores"] >= 1
    assert datetime.fromisoformat(told["started"]).tzinfo is not None


def test_a_run_of_a_checkout_knows_its_commit_and_whether_files_were_changed_since(tmp_path: Path) -> None:
    assert _commit(tmp_path) == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "a.py").write_text("1")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    (tmp_path / "new.py").write_text("not tracked")
    assert _commit(tmp_path) == commit and len(commit) == 40
    (tmp_path / "a.py").write_text("2")
    assert _commit(tmp_path) == commit + "+"
