from pathlib import Path

import keras
import numpy as np
import pytest

from fedpolyp import checkpoints
from fedpolyp.algorithms.finding import make
from fedpolyp.checkpoints import Best, Checkpoint
from fedpolyp.report.finish import save_models
from fedpolyp.runs import RoundRecord
from fedpolyp.training import shared_trainer
from tests.tiny import tiny_config, tiny_run


@pytest.mark.parametrize("algorithm", ["fedavg", "local"])
def test_the_last_model_and_the_one_best_on_validation_are_both_left(tmp_path: Path, algorithm: str) -> None:
    config = tiny_config(algorithm__name=algorithm, hospitals__count=2)
    run, trainer = tiny_run(tmp_path / "run", config), shared_trainer(config)
    hospitals = sorted(run.partition().hospitals)
    start = make(config, hospitals).begin(trainer.start)
    marked = next(name for name, array in trainer.initial.items() if array.ndim == 4)
    owners = hospitals if algorithm == "local" else [""]
    # Each model has marks of its own: one of another hospital, or of another round, is told from the right one.
    about = {owner: place * 10 for place, owner in enumerate(owners)}
    for number in (1, 2):
        state = dict(start)
        for owner in owners:
            group = f"model:{owner}" if owner else "model"
            marks = np.full_like(start[group][marked], about[owner] + number)
            state[group] = trainer.initial | {marked: marks}
        model = Checkpoint(number, run.fingerprint(), state, dict.fromkeys(owners, Best(1, 0.5)))
        checkpoints.save(run.checkpoints, model, keep=1)
    for number in range(3):
        run.append_round(RoundRecord(number, {"dice": 0.5, "iou": 0.4, "loss": 1.0}).to_plain())
    save_models(run)
    for owner in owners:
        for kind, number in (("last", 2), ("best", 1)):
            saved = keras.saving.load_model(run.model_file(kind, owner))
            (weights,) = [np.asarray(v) for v in saved.weights if v.path == marked]
            assert (weights == about[owner] + number).all()
    files = {path.name for path in run.path.glob("*.keras")}
    assert files == {f"model-{kind}{owner and '-' + owner}.keras" for kind in ("last", "best") for owner in owners}
