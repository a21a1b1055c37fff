"""The held-out score is that of the models as they are, and a loss that is no number ends the run."""

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fedpolyp import checkpoints
from fedpolyp.data.source import open_source
from fedpolyp.divergence import Diverged
from fedpolyp.model.arrays import Arrays
from fedpolyp.report.finish import finish
from fedpolyp.rounds.observers.heldout import HeldOut
from fedpolyp.training import Evaluation, shared_trainer
from tests.real_sites import draw_images
from tests.tiny import carry_here, final, tiny_config, tiny_run


def test_a_model_whose_loss_is_not_finite_is_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(federation__rounds=1)
    run, evaluate, scored = tiny_run(tmp_path / "run", config), HeldOut.evaluate, []

    def diverged(self: HeldOut, arrays: Arrays) -> Evaluation:
        scored.append(arrays)
        evaluation = evaluate(self, arrays)
        lost = np.full_like(evaluation.losses, np.nan) if len(scored) == 2 else evaluation.losses
        return replace(evaluation, losses=lost)

    monkeypatch.setattr(HeldOut, "evaluate", diverged)
    with pytest.raises(Diverged, match="^round 1: the held-out loss of the model is not finite; "):
        carry_here(run, config)
    assert [record["round"] for record in run.rounds()] == checkpoints.rounds_in(run.checkpoints) == [0]
    assert "NaN" not in run.rounds_file.read_text()


def test_a_rounds_scores_are_the_mean_over_its_models_of_the_means_over_the_held_out_images(tmp_path: Path) -> None:
    config = tiny_config(algorithm__name="local", federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    carry_here(run, config)
    store = open_source(config.data, config.seed)
    positions = store.positions(run.partition().heldout)
    images, masks = store.images[positions], store.masks[positions]
    trainer = shared_trainer(config)
    means = [trainer.evaluate(model, images, masks).means() for model in final(run, config).models.values()]
    assert len(means) == 3
    for name in ("dice", "iou", "loss"):
        assert run.rounds()[-1][name] == pytest.approx(np.mean([own[name] for own in means]), abs=1e-12)


def test_frames_without_a_polyp_train_and_are_scored_apart(tmp_path: Path) -> None:
    folder = draw_images(tmp_path / "images", 40)
    for number in range(0, 40, 4):
        cv2.imwrite(str(folder / "masks" / f"patient-{number:03d}.png"), np.zeros((64, 64), np.uint8))
    config = tiny_config(data__source=str(folder), data__held_out=0.3, federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    carry_here(run, config)
    finish(run, store := open_source(config.data, config.seed))
    with run.images_file.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if (row["set"], row["model"]) == ("heldout", "last")]
    counts = {row["id"]: [int(row[name]) for name in ("tp", "fp", "fn", "tn")] for row in rows}
    without = [c for id, c in counts.items() if int(id.removeprefix("patient-")) % 4 == 0]
    dice = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn, tn in counts.values() if tp + fn]
    last = run.rounds()[-1]
    assert 0 < len(without) < len(counts) and all(tp + fn == 0 for tp, fp, fn, tn in without)
    assert last["dice"] == pytest.approx(np.mean(dice))
    assert last["without_polyp"] == {
        "images": len(without),
        "rate": pytest.approx(np.mean([fp > 0 for _, fp, _, _ in without])),
        "area": pytest.approx(np.mean([fp / 1024 for _, fp, _, _ in without])),
    }
    assert np.isfinite(last["loss"]) and all(np.isfinite(own["train_loss"]) for own in last["hospitals"].values())
    assert sum(record.lesion_fraction == 0 for record in store.records) == 10
