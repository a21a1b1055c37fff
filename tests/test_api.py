"""fedpolyp from Python."""

import subprocess
import sys
from pathlib import Path
from typing import TypedDict

import pytest

import fedpolyp
from fedpolyp import checkpoints
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.model.arrays import Arrays
from tests.same_bits import equal
from tests.tiny import tiny_config, tiny_run


class Tiny(TypedDict):
    """Arguments of `simulate` and `compare`."""

    hospitals: int
    image_size: int
    settings: dict[str, object]


TINY: Tiny = {
    "hospitals": 3,
    "image_size": 32,
    "settings": {
        "data.phantom_images": 30,
        "model.base_filters": 4,
        "training.batch_size": 4,
        "training.optimizer": "adam",
        "training.schedule": "constant",
        "training.precision": "float32",
    },
}


def test_the_package_loads_nothing_heavy_until_it_is_asked_for() -> None:
    heavy = "{'tensorflow', 'flwr', 'ray', 'pydantic', 'typer'}"
    program = f"import sys, fedpolyp; assert not {heavy} & sys.modules.keys()"
    program += "; fedpolyp.simulate; assert not {'tensorflow', 'flwr', 'ray'} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_every_name_of_the_package_is_there_and_another_is_an_attribute_error() -> None:
    assert all(getattr(fedpolyp, name) is not None for name in fedpolyp.__all__)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        fedpolyp.train  # noqa: B018


def test_a_run_from_python_has_the_bits_of_the_command_line_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fedpolyp.simulate("phantom", algorithm="pooled", rounds=1, out=tmp_path / "run", **TINY)
    assert run.finished and run.dice == run.rounds["dice"][-1] and run.rounds["round"] == [0, 1]
    assert "pooled/0 round 1/1: held-out Dice" in capsys.readouterr().out
    options = [f"--set={name}={value}" for name, value in TINY["settings"].items()]
    options += ["--hospitals=3", "--image-size=32", "--rounds=1", "--algorithm=pooled", f"--out={tmp_path / 'typed'}"]
    subprocess.run([sys.executable, "-m", "fedpolyp", "simulate", "--quiet", *options], check=True)
    typed = fedpolyp.load_run(tmp_path / "typed")
    assert equal(_weights(run, 1), _weights(typed, 1))
    assert list(run.images) == list(typed.images) and set(run.images["set"]) >= {"heldout"}
    assert run.resume(2, quiet=True).rounds["round"] == [0, 1, 2] and run.finished
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_comparison_from_python_trains_its_arms_and_writes_the_report(tmp_path: Path) -> None:
    arms: dict[str, dict[str, object]] = {
        "far": {"algorithm.name": "fedprox", "algorithm.mu": 0.1},
        "all": {"algorithm.name": "pooled"},
    }
    found = fedpolyp.compare("phantom", out=tmp_path / "c", arms=arms, rounds={"": 1, "all": 2}, quiet=True, **TINY)
    assert found.report.exists() and len(found.runs) == 2
    assert sorted(found.arms["arm"]) == ["all", "far"] and found.arms.columns[:3] == ("arm", "seeds", "dice")
    assert len(found.differences) == 1 and found.differences[0]["low"] <= found.differences[0]["difference"]
    assert {run.config.label: len(run.rounds) for run in found.runs} == {"all": 3, "far": 2}
    again = fedpolyp.compare("phantom", out=tmp_path / "c", arms=arms, rounds={"": 1, "all": 2}, quiet=True, **TINY)
    assert list(again.arms) == list(fedpolyp.load_comparison(tmp_path / "c").arms) == list(found.arms)


def test_a_run_that_cannot_be_is_refused_before_its_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="hospitals.count"):
        fedpolyp.simulate("phantom", hospitals=0, out=tmp_path / "run")
    with pytest.raises(UsageError, match="seed is given twice: in settings and as an argument"):
        fedpolyp.simulate("phantom", seed=1, settings={"seed": 2}, out=tmp_path / "run")
    with pytest.raises(UsageError, match="there is no run"):
        fedpolyp.load_run(tmp_path / "run")
    with pytest.raises(UsageError, match="holds no comparison"):
        fedpolyp.load_comparison(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_not_finished_says_so_and_shows_what_there_is(tmp_path: Path) -> None:
    run = fedpolyp.load_run(tiny_run(tmp_path / "run", tiny_config()).path)
    assert run.dice is None and len(run.rounds) == len(run.hospitals) == 0 and not run.finished
    assert repr(run).endswith(f"0 of {run.config.federation.rounds} rounds)")
    with pytest.raises(FedpolypError, match="it is not finished"):
        print(run.images)
    with pytest.raises(UsageError, match="it is not finished"):
        run.predictor()


def _weights(run: "fedpolyp.Run", round: int) -> Arrays:
    folder = run.folder
    return checkpoints.load(folder.checkpoints, round, folder.fingerprint()).state["model"]
