from pathlib import Path

import keras
import numpy as np
import pytest
from fedpolyp.experiment.unfederated import learners

from fedpolyp import checkpoints
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.report.finish import save_models
from fedpolyp.runs import RoundRecord
from fedpolyp.training import shared_trainer
from tests.tiny import tiny_config, tiny_run


@pytest.mark.parametrize("arm", ["federated", "local"])
def test_the_last_model_and_the_one_best_on_validation_are_both_left(tmp_path: Path, arm: str) -> None:
    config = tiny_config(arm=arm)
    run, trainer = tiny_run(tmp_path / "run", config), shared_trainer(config)
    marked = next(name for name, array in trainer.initial.items() if array.ndim == 4)
    owners = [learner.model for learner in learners(config, run, run.partition())]
    for learner in learners(config, run, run.partition()):
        for number in (1, 2):
            arrays = {name: np.full_like(a, number) if name == marked else a for name, a in trainer.initial.items()}
            model = Checkpoint(number, run.fingerprint(), arrays, {}, best_round=1, best_val_dice=0.5)
            checkpoints.save(learner.checkpoints, model, keep=1)
    for number in range(3):
        run.append_round(RoundRecord(number, {"dice": 0.5, "iou": 0.4, "loss": 1.0}).to_plain())
    save_models(run)
    for owner in owners:
        for kind, number in (("last", 2), ("best", 1)):
            saved = keras.saving.load_model(run.model_file(kind, owner))
            (weights,) = [np.asarray(v) for v in saved.weights if v.path == marked]
            assert (weights == number).all()
    files = {path.name for path in run.path.glob("*.keras")}
    assert files == {f"model-{kind}{owner and '-' + owner}.keras" for kind in ("last", "best") for owner in owners}
