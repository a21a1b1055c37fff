"""A run of no rounds: it scores what it begins with, and trains nothing."""

from pathlib import Path

import pytest

from fedpolyp import checkpoints
from fedpolyp.data.source import open_source
from fedpolyp.experiment.scores import LAST, read_scores
from fedpolyp.inference.about import as_settings
from fedpolyp.report.comparison import write_report
from fedpolyp.report.finish import finish
from fedpolyp.runs import RunFolder
from tests.same_bits import equal
from tests.tiny import SETTINGS, carry_here, tiny_config, tiny_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = tiny_config(federation__rounds=1)
    run = tiny_run(tmp_path_factory.mktemp("trained") / "run", config)
    carry_here(run, config)
    finish(run, open_source(config.data, config.data_seed))
    return run


def test_a_saved_model_gets_the_scores_that_its_own_run_gave_it(trained: RunFolder, tmp_path: Path) -> None:
    settings = SETTINGS | as_settings(trained.model_file("last"))
    config = tiny_config(**{name.replace(".", "__"): value for name, value in settings.items()})
    run = tiny_run(tmp_path / "run", config)
    carry_here(run, config)
    finish(run, open_source(config.data, config.data_seed))
    assert run.finished and len(run.rounds()) == 1 and checkpoints.rounds_in(run.checkpoints) == [0]
    (record,), own = run.rounds(), trained.rounds()[-1]
    assert [record[name] for name in ("dice", "val_dice", "loss")] == [
        own[name] for name in ("dice", "val_dice", "loss")
    ]
    assert {name: one["test_dice"] for name, one in record["hospitals"].items()} == {
        name: one["test_dice"] for name, one in own["hospitals"].items()
    }
    before = checkpoints.load(trained.checkpoints, 1, trained.fingerprint()).models[""]
    assert equal(checkpoints.load(run.checkpoints, 0, run.fingerprint()).models[""], before)
    scored = [read_scores([one]).where(kind=LAST) for one in (run, trained)]
    assert (scored[0].counts == scored[1].counts).all() and (scored[0].set == scored[1].set).all()
    assert write_report(tmp_path / "report", [run]).exists()
