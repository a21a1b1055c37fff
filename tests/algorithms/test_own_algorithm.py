"""An algorithm of a user's own, by `module:Class` and by entry point, with every guarantee of the built-in ones."""

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp.algorithms import finding
from fedpolyp.algorithms.base import trainable
from fedpolyp.algorithms.finding import find
from fedpolyp.config import load, to_toml
from fedpolyp.data.source import open_source
from fedpolyp.errors import UsageError
from fedpolyp.rounds import here
from fedpolyp.runs import RunFolder
from fedpolyp.training import shared_trainer
from fedpolyp.watcher import Watcher
from tests.algorithms.test_every_algorithm import assert_same
from tests.test_command_line import ROOT
from tests.tiny import federate, final, tiny_config, tiny_run

NAME = "tests.algorithms.own_algorithm:Damped"


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that offers the algorithm as 'damped'."""
    entry = EntryPoint("damped", NAME, finding.GROUP)
    monkeypatch.setattr(finding, "entry_points", lambda group, name=None: [entry] if name in (None, "damped") else [])


def carried(folder: Path, **options: Any) -> tuple[RunFolder, Any]:
    config = tiny_config(federation__rounds=2, training__local_epochs=1, **options)
    run, store = tiny_run(folder, config), open_source(config.data, config.data_seed)
    here.run(config, run, store, run.partition(), Watcher())
    return run, config


def test_it_runs_end_to_end_through_messages_and_without_and_gives_the_same_bits(tmp_path: Path) -> None:
    run, config = carried(tmp_path / "here", algorithm__name=NAME, algorithm__part=0.25)
    federate(other := tiny_run(tmp_path / "messages", config), config)
    assert_same(run, other, config)
    assert config.label == "damped"


def test_all_of_the_update_is_fedavg_and_a_part_of_it_is_not(tmp_path: Path) -> None:
    whole, config = carried(tmp_path / "whole", algorithm__name=NAME, algorithm__part=1.0)
    part, _ = carried(tmp_path / "part", algorithm__name=NAME)
    fedavg, _ = carried(tmp_path / "fedavg")
    models = [final(run, config).models[""] for run in (whole, part, fedavg)]
    for name, array in models[2].items():
        np.testing.assert_array_equal(models[0][name], array)
    assert any((models[1][name] != array).any() for name, array in models[2].items())


def test_a_direction_of_its_own_is_taken_in_every_step_whether_or_not_it_has_corrections() -> None:
    name = "tests.algorithms.own_algorithm:Still"
    config = tiny_config(algorithm__name=name, training__optimizer="sgd")
    trainer, rng = shared_trainer(config), np.random.default_rng(0)
    images, masks = rng.integers(0, 256, (4, 32, 32, 3), np.uint8), rng.integers(0, 2, (4, 32, 32), np.uint8)
    after = trainer.train(trainer.initial, images, masks, hospital="oslo", round=1, learning_rate=0.1).arrays
    for array, before in trainable(trainer.initial).items():
        np.testing.assert_array_equal(after[array], before)


def test_an_offered_one_goes_by_its_name_and_its_settings_are_listed(offered: None) -> None:
    config = load(overrides={"algorithm.name": "damped", "algorithm.part": 0.25})
    assert 'name = "damped"' in to_toml(config, explain=True)
    assert "part = 0.25" in to_toml(config, explain=True)
    assert "Damped: how much of the mean update is taken" in to_toml(config, explain=True)
    assert finding.known()[-1] == "damped"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere:Class", "No module named 'nowhere'"),
        ("fedpolyp.errors:UsageError", "not a subclass of fedpolyp.algorithms.base.Algorithm"),
        ("fedpolyp.errors:Nothing", "has no attribute 'Nothing'"),
        ("damped", "algorithm must be one of pooled, local, fedavg"),
        ("tests.algorithms.own_algorithm:Corrected", "fine-tunes, so it needs .* and no corrections"),
        ("tests.algorithms.own_algorithm:Unset", "fine-tunes, so it needs the settings own_epochs and own_rate"),
    ],
)
def test_what_is_no_algorithm_is_refused_in_one_sentence(name: str, why: str) -> None:
    with pytest.raises((UsageError, ValueError), match=why):
        finding.make(load(overrides={"algorithm.name": name}))


def test_its_settings_are_checked_by_its_own_model() -> None:
    def made() -> None:
        finding.make(load(overrides={"algorithm.name": NAME, "algorithm.part": 2.0}))

    with pytest.raises((UsageError, ValueError), match="part"):
        made()


def test_the_page_about_it_is_followed_to_the_letter(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "extending.md").read_text()
    (code,) = re.findall(r"```python\n(# algorithms/.*?)```", page, re.DOTALL)
    file = tmp_path / code.splitlines()[0].removeprefix("# ")
    file.parent.mkdir()
    file.write_text(code)
    export = re.findall(r"^export PYTHONPATH=.*$", page, re.MULTILINE)[0]
    (name, setting) = re.findall(r"--algorithm (\S+) --set (\S+)$", page, re.MULTILINE)[0]
    command = f"{export}; exec {sys.executable} -P -m fedpolyp config --algorithm {name} --set {setting}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '[algorithm]\nname = "damped:Damped" ' in done.stdout and "\npart = 0.25 " in done.stdout


def test_a_module_that_is_not_found_is_told_with_where_it_may_lie() -> None:
    with pytest.raises(ValueError, match="No module named 'nowhere'; put its folder on PYTHONPATH, and not the"):
        find("nowhere:Own")
