"""A hospital trains with what it was sent, sends the difference, and goes on from its training that counted last."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp import metrics
from fedpolyp.algorithms.base import Groups, plus
from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.source import open_source
from fedpolyp.errors import FedpolypError
from fedpolyp.exchange.requests import Evaluate, Train
from fedpolyp.hospital import private_state, work
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.model.arrays import Arrays
from fedpolyp.training import shared_trainer
from tests.same_bits import equal
from tests.tiny import tiny_config

NAME = "hospital-2"
# Fourteen images, so that of those some can be drawn; and the rate of the requests.
OF_ITS_OWN: dict[str, Any] = {"data__phantom_images": 60, "training__learning_rate": 0.01}


def hospital(folder: Path, **settings: Any) -> Hospital:
    config = tiny_config(**OF_ITS_OWN | settings)
    store = open_source(config.data, config.data_seed)
    return Hospital(NAME, config, store, partition_images(store.records, config).hospitals[NAME], folder / "state")


def sent(at: Hospital) -> dict[str, Arrays]:
    start = shared_trainer(at.config).start
    return {"model": start.model, "optimizer": start.optimizer}


def received(groups: Groups, asked: list[str] | None = None) -> Callable[[str, Arrays], Arrays]:
    """What came with a request; `asked` keeps what was asked for."""

    def arrays(group: str, like: Arrays) -> Arrays:
        if asked is not None:
            asked.append(group)
        assert like.keys() == groups[group].keys()
        return groups[group]

    return arrays


def request(round: int = 1, **details: Any) -> Train:
    return Train(NAME, round, "", **{"learning_rate": 0.01} | details)


def trained(at: Hospital, round: int = 1, optimizer: Arrays | None = None) -> Any:
    """What the trainer makes of the hospital's images by itself."""
    images, masks = at.images("train")
    model = shared_trainer(at.config).start.model
    return shared_trainer(at.config).train(
        model, images, masks, hospital=NAME, round=round, learning_rate=0.01, optimizer=optimizer
    )


@pytest.mark.parametrize("set", ["train", "val", "test"])
def test_a_hospitals_images_are_its_own_in_the_order_of_its_ids(tmp_path: Path, set: str) -> None:
    at = hospital(tmp_path)
    images, masks = at.images(set)
    assert len(images) == len(masks) == len(getattr(at.ids, set)) > 0
    for row, position in enumerate(at.store.positions(getattr(at.ids, set))):
        assert np.array_equal(images[row], at.store.images[position])
        assert np.array_equal(masks[row], at.store.masks[position])


def test_an_update_is_what_its_own_images_change_in_what_was_sent(tmp_path: Path) -> None:
    at, asked = hospital(tmp_path), list[str]()
    groups, alone = sent(at), trained(at, optimizer=sent(at)["optimizer"])
    answer = work.train(request(), received(groups, asked), at)
    assert set(asked) == {"model", "optimizer"} == set(answer.groups)
    assert equal(
        plus(groups["model"], answer.arrays("model")), plus(groups["model"], _difference(alone.arrays, groups))
    )
    assert answer.said == {"images": len(at.ids.train), "train_loss": alone.loss, "steps": alone.steps}
    assert any(change.any() for change in answer.arrays("model").values())
    assert not at.state.exists()  # it keeps nothing


def _difference(arrays: Arrays, groups: Groups) -> Arrays:
    return {name: array - groups["model"][name] for name, array in arrays.items()}


def test_moments_that_are_kept_are_those_of_the_last_training_that_counted(tmp_path: Path) -> None:
    at = hospital(tmp_path, training__optimizer_state="keep")
    groups = sent(at)
    first = work.train(request(1), received(groups), at)
    work.train(request(2, counted=1), received(groups), at)  # its update is refused, say
    after = [work.train(request(3, counted=counted), received(groups), at).arrays("model") for counted in (0, 1, 2)]
    assert first.groups == {"model"}
    assert not any(equal(one, other) for one, other in ((after[0], after[1]), (after[1], after[2])))
    moments = private_state.read(at.state, 1)["optimizer"]
    assert equal(after[1], _difference(trained(at, 3, moments).arrays, groups))
    (at.state / "000001.npz").unlink()
    with pytest.raises(private_state.Gone, match="the private state of round 1 is gone"):
        work.train(request(3, counted=1), received(groups), at)


def test_a_training_drops_the_state_that_its_request_says_nobody_needs(tmp_path: Path) -> None:
    at = hospital(tmp_path, training__optimizer_state="keep")
    for round, keep_from, keep_best in ((1, 0, 0), (2, 0, 0), (3, 1, 1), (4, 3, 1)):
        details = {"counted": round - 1, "keep_from": keep_from, "keep_best": keep_best}
        work.train(request(round, **details), received(sent(at)), at)
    assert sorted(path.name for path in at.state.iterdir()) == ["000001.npz", "000003.npz", "000004.npz"]


def test_an_algorithm_that_keeps_what_it_would_never_get_back_is_refused(tmp_path: Path) -> None:
    at = hospital(tmp_path, algorithm__name="tests.algorithms.own_algorithm:Forgetful")
    with pytest.raises(FedpolypError, match="Forgetful keeps before at the hospital.* must say keeps_state = True$"):
        work.train(request(), received(sent(at)), at)
    assert not at.state.exists()


@pytest.mark.parametrize("distances", [False, True])
def test_scores_are_of_the_set_that_is_asked_for_and_of_the_model_that_was_sent(
    tmp_path: Path, distances: bool
) -> None:
    at, asked = hospital(tmp_path), list[str]()
    images, masks = at.images("test")
    evaluation = shared_trainer(at.config).evaluate(sent(at)["model"], images, masks)
    scoring = Evaluate(NAME, 1, "", score_set="test", distances=distances)
    answer = work.evaluate(scoring, received(sent(at), asked), at)
    expected = {"counts": evaluation.counts, "losses": evaluation.losses}
    if distances:
        expected["hd95"] = metrics.hd95(evaluation.predicted, masks)
    assert equal(answer.arrays("scores"), expected) and asked == ["model"] and answer.said == {}


def test_own_layers_are_kept_to_the_bit_and_scored_with(tmp_path: Path) -> None:
    at = hospital(tmp_path, algorithm__name="fedbn")
    work.train(request(), received(sent(at)), at)
    alone = trained(at, optimizer=sent(at)["optimizer"]).arrays
    own = {name: array for name, array in alone.items() if "_norm/" in name}
    assert own and equal(private_state.read(at.state, 1)["normalization"], own)
    scores = [work.evaluate(Evaluate(NAME, 1, "", counted=counted), received(sent(at)), at) for counted in (0, 1)]
    images, masks = at.images("val")
    for answer, model in zip(scores, (sent(at)["model"], sent(at)["model"] | own), strict=True):
        assert equal(
            {"losses": answer.arrays("scores")["losses"]},
            {"losses": shared_trainer(at.config).evaluate(model, images, masks).losses},
        )
    assert not equal(scores[0].arrays("scores"), scores[1].arrays("scores"))
