"""A trainer can be used again and again: what one training does depends on its arguments alone."""

import dataclasses
import threading
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from fedpolyp import metrics
from fedpolyp.algorithms.base import Trained, trainable
from fedpolyp.config import Config, load
from fedpolyp.model.arrays import Arrays, is_statistic
from fedpolyp.network import Network, compiled
from fedpolyp.training import Images, Trainer, _one_ahead, learning_rate, shared_trainer
from tests.bfloat16 import computes_in_bfloat16
from tests.same_bits import equal


def tiny(**overrides: Any) -> Config:
    settings = {"training.optimizer": "adam", "data.image_size": 32, "model.base_filters": 2, "training.batch_size": 4}
    return load(overrides=settings | {name.replace("__", "."): value for name, value in overrides.items()})


@lru_cache(maxsize=None)  # noqa: UP033  # building and tracing cost seconds, and a used network is as good as a new one
def network(what_matters: Config) -> Network:
    return Network(what_matters)


def trainer(**overrides: Any) -> Trainer:
    config = tiny(**overrides)
    return Trainer(config, network(compiled(config)))


def frames(count: int, seed: int = 0) -> tuple[Images, Images]:
    """Noisy frames with one bright disc each, and the disc."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, 32, 32), np.uint8)
    rows, columns = np.mgrid[:32, :32]
    for mask in masks:
        y, x, radius = rng.integers(8, 24), rng.integers(8, 24), rng.integers(4, 9)
        mask[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = 1
    images = rng.integers(20, 80, (count, 32, 32, 3)) + 120 * masks[..., None]
    return images.astype(np.uint8), masks


def train(with_: Trainer, data: tuple[Images, Images], start: Arrays | None = None, **details: Any) -> Trained:
    about: dict[str, Any] = {"hospital": "hospital-1", "round": 1, "learning_rate": 1e-2} | details
    begin = with_.initial if start is None else start
    if with_.config.algorithm.name == "fedprox":
        about["corrections"] = {"anchor": trainable(begin)}
    return with_.train(begin, *data, **about)


def same(one: Trained, other: Trained) -> bool:
    plain = [(trained.loss, trained.images, trained.steps) for trained in (one, other)]
    return plain[0] == plain[1] and equal(one.arrays, other.arrays) and equal(one.optimizer, other.optimizer)


@lru_cache(maxsize=1)
def learnt() -> Arrays:
    """Weights that find the discs of frames(8)."""
    one, data = trainer(training__augment=False), frames(8)
    weights, optimizer = one.initial, None
    for round in range(1, 41):
        trained = train(one, data, weights, round=round, optimizer=optimizer)
        weights, optimizer = trained.arrays, trained.optimizer
    return weights


def distance(one: Arrays, other: Arrays, names: list[str]) -> float:
    return float(np.sqrt(sum(np.sum((one[name] - other[name]) ** 2) for name in names)))


def test_a_used_trainer_gives_the_bits_of_a_fresh_one() -> None:
    config = tiny(model__dropout=(0.2, 0.4), training__local_epochs=2, algorithm__name="fedprox")
    used, data, elsewhere = Trainer(config), frames(6), frames(7, seed=1)
    first = train(used, data)
    other = train(used, elsewhere, hospital="hospital-2", round=3, learning_rate=0.1)
    used.evaluate(other.arrays, *elsewhere)
    again = train(used, data)
    fresh = train(Trainer(config), data)
    assert same(first, again) and same(again, fresh)
    assert not equal(first.arrays, other.arrays)


def test_training_changes_neither_its_start_nor_what_it_left_before() -> None:
    one = trainer()
    start = {name: array.copy() for name, array in one.initial.items()}
    first = train(one, frames(5), start)
    kept = {name: array.copy() for name, array in first.arrays.items()}
    train(one, frames(5, seed=1), first.arrays)
    assert equal(start, one.initial) and equal(kept, first.arrays)


def test_no_number_of_images_is_traced_anew() -> None:
    one = trainer()
    for count in (5, 8, 1, 6):
        train(one, frames(count))
    for count in (3, 16, 17, 1):
        one.evaluate(one.initial, *frames(count))
        one.predict(one.initial, frames(count)[0])
    assert one.network.traces == 2


def test_a_training_says_how_many_images_and_steps_it_took() -> None:
    one = trainer(training__augment=False, model__normalization="none", training__local_epochs=3)
    trained = train(one, frames(5))
    assert (trained.images, trained.steps) == (5, 3 * 2)
    assert trained.optimizer["iterations"] == 3 * 2


def test_the_reported_loss_is_the_mean_over_images_of_the_loss_before_each_step() -> None:
    one, data = trainer(training__augment=False, model__normalization="none"), frames(4)
    expected = one.evaluate(one.initial, *data).losses.mean()
    assert train(one, data).loss == pytest.approx(expected, rel=1e-5)


def test_the_loss_falls_and_the_discs_are_found() -> None:
    one, data = trainer(training__augment=False), frames(8)
    before, after = one.evaluate(one.initial, *data), one.evaluate(learnt(), *data)
    assert after.losses.mean() < before.losses.mean() / 3
    assert metrics.dice(after.counts).mean() > 0.8


def test_kept_optimizer_state_goes_on_where_it_left_off() -> None:
    one, data = trainer(), frames(6)
    first = train(one, data)
    reset = train(one, data, first.arrays, round=2)
    kept = train(one, data, first.arrays, round=2, optimizer=first.optimizer)
    assert [trained.optimizer["iterations"] for trained in (reset, kept)] == [2, 4]
    assert not equal(reset.arrays, kept.arrays)
    assert list(first.optimizer) == list(one.start.optimizer)
    assert any(np.any(array) for name, array in first.optimizer.items() if name.startswith("v/"))
    assert not any(np.any(array) for array in one.start.optimizer.values())


def test_three_rounds_with_kept_state_are_one_training_of_three_epochs() -> None:
    settings = {"training__augment": False, "model__normalization": "none"}
    one, three = trainer(**settings), trainer(**settings, training__local_epochs=3)
    data = frames(1)  # one image, so that the order of images is no matter
    weights, optimizer = one.initial, None
    for round in range(1, 4):
        trained = train(one, data, weights, round=round, optimizer=optimizer)
        weights, optimizer = trained.arrays, trained.optimizer
    whole = train(three, data)
    assert equal(trained.arrays, whole.arrays) and equal(trained.optimizer, whole.optimizer)


@pytest.mark.parametrize(
    "details",
    [{"hospital": "hospital-2"}, {"round": 2}, {"learning_rate": 1e-3}],
    ids=lambda details: next(iter(details)),
)
def test_hospital_round_and_learning_rate_each_make_a_difference(details: dict[str, Any]) -> None:
    assert not equal(train(trainer(), frames(6)).arrays, train(trainer(), frames(6), **details).arrays)


@pytest.mark.parametrize("details", [{"hospital": "hospital-2"}, {"round": 2}], ids=lambda details: next(iter(details)))
def test_dropout_is_drawn_anew_for_each_hospital_and_round(details: dict[str, Any]) -> None:
    data = frames(1)
    plain = {"training__augment": False, "model__normalization": "none"}
    assert same(train(trainer(**plain), data), train(trainer(**plain), data, **details))
    dropping = trainer(**plain, model__dropout=(0.5, 0.5))
    assert not equal(train(dropping, data).arrays, train(dropping, data, **details).arrays)


def test_statistics_are_fixed_after_their_round_and_every_other_round_has_the_same_bits() -> None:
    plain, data = trainer(), frames(8)
    fixing = Trainer(tiny(training__fix_statistics_after=2), plain.network)
    start = train(plain, data).arrays
    for round in (3, 2, 3):  # one network takes both kinds of steps, in any order
        usual, own = (train(one, data, start, round=round) for one in (plain, fixing))
        assert same(usual, own) == (round == 2)
        for name, array in own.arrays.items():
            assert np.array_equal(array, start[name]) == (round == 3 and is_statistic(name)), name


def test_augmentation_changes_what_is_learnt() -> None:
    on, off = (train(trainer(training__augment=augment), frames(6)) for augment in (True, False))
    assert not equal(on.arrays, off.arrays)


def test_fedprox_without_pull_is_fedavg() -> None:
    fedprox = trainer(algorithm__name="fedprox", algorithm__mu=0.0)
    assert same(train(trainer(), frames(6)), train(fedprox, frames(6)))


def test_a_strong_pull_of_fedprox_stays_nearer_to_the_start() -> None:
    free, bound = trainer(), trainer(algorithm__name="fedprox", algorithm__mu=50.0)
    start = train(free, frames(6)).arrays  # not the initial weights, so that the anchor has to move
    names = [variable.path for variable in free.network.model.trainable_variables]
    moved = [distance(train(one, frames(48), start).arrays, start, names) for one in (free, bound)]
    assert moved[1] < moved[0] / 2


@computes_in_bfloat16
def test_mixed_precision_leaves_float32_weights_and_scores() -> None:
    one = trainer(training__precision="mixed_bfloat16")
    trained = train(one, frames(6))
    assert {array.dtype for array in trained.arrays.values()} == {np.dtype(np.float32)}
    assert {array.dtype for name, array in trained.optimizer.items() if name != "iterations"} == {np.dtype(np.float32)}
    assert one.network.model.output.dtype == "float32"
    exact = train(trainer(), frames(6))
    assert not equal(trained.arrays, exact.arrays)
    assert trained.loss == pytest.approx(exact.loss, rel=0.05)


def test_evaluation_counts_the_pixels_of_the_prediction() -> None:
    one, (images, masks), weights = trainer(), frames(18), learnt()  # more than one batch
    predicted = one.predict(weights, images)
    assert predicted.dtype == np.uint8 and all(0 < mask.mean() < 1 for mask in predicted[[0, 17]])
    evaluation = one.evaluate(weights, images, masks)
    assert np.array_equal(evaluation.counts, metrics.count_pixels(predicted, masks))
    assert evaluation.losses.shape == (18,)
    for row in (0, 17):
        alone = one.evaluate(weights, images[row : row + 1], masks[row : row + 1])
        assert alone.losses[0] == pytest.approx(evaluation.losses[row], rel=1e-4)


def test_evaluation_of_no_images_is_empty() -> None:
    evaluation = trainer().evaluate(trainer().initial, *frames(0))
    assert evaluation.counts.shape == (0, 4) and evaluation.losses.shape == (0,)


def test_a_saved_model_sees_polyps_where_the_trainer_does(tmp_path: Path) -> None:
    one, (images, _) = trainer(), frames(8)
    predicted = one.predict(learnt(), images)
    train(one, frames(6, seed=1))  # leaves other weights in the model
    one.save(learnt(), tmp_path / "model.keras")
    probability = keras.saving.load_model(tmp_path / "model.keras").predict(images, verbose=0)[..., 0]
    clear = np.abs(probability - 0.5) > 1e-5
    assert 0 < predicted.mean() < 1
    assert np.array_equal((probability > 0.5)[clear], predicted.astype(bool)[clear])


def test_a_save_that_breaks_off_leaves_the_model_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(model: keras.Model, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    file = tmp_path / "model-last.keras"
    file.write_bytes(b"whole")
    monkeypatch.setattr(keras.Model, "save", break_off)
    with pytest.raises(KeyboardInterrupt):
        trainer().save(trainer().initial, file)
    assert [path.name for path in tmp_path.iterdir()] == [file.name] and file.read_bytes() == b"whole"


def test_an_empty_training_set_is_refused() -> None:
    with pytest.raises(ValueError, match="^there are no training images$"):
        train(trainer(), frames(0))


def test_weights_and_optimizer_state_that_do_not_fit_are_refused() -> None:
    one = trainer()
    with pytest.raises(ValueError, match="unexpected"):
        train(one, frames(2), one.initial | {"more": np.zeros(1)})
    with pytest.raises(ValueError, match="missing"):
        train(one, frames(2), optimizer={})


@pytest.mark.parametrize(
    ("algorithm", "corrections", "said"),
    [
        ("fedavg", {"anchor": {}}, r"^the algorithm corrects by \[\]; got \['anchor'\]$"),
        ("fedprox", {}, r"^the algorithm corrects by \['anchor'\]; got \[\]$"),
        ("fedprox", {"toward": {}}, r"^the algorithm corrects by \['anchor'\]; got \['toward'\]$"),
        ("fedprox", {"anchor": {}}, "^array names differ: [1-9][0-9]* missing "),
    ],
)
def test_other_corrections_than_the_algorithms_are_refused(
    algorithm: str, corrections: dict[str, Arrays], said: str
) -> None:
    one = trainer(algorithm__name=algorithm)
    about: dict[str, Any] = {"hospital": "hospital-1", "round": 1, "learning_rate": 1e-2}
    with pytest.raises(ValueError, match=said):
        one.train(one.initial, *frames(2), **about, corrections=corrections)


def test_the_gradient_is_the_mean_over_the_steps_and_only_where_an_algorithm_wants_it() -> None:
    settings = {"training__augment": False, "model__normalization": "none", "training__optimizer": "sgd"}
    one, data = trainer(**settings, algorithm__name="scaffold"), frames(4)
    nothing = {"toward": {name: np.zeros_like(array) for name, array in one.start.trainable.items()}}
    about: dict[str, Any] = {"hospital": "hospital-1", "round": 1, "learning_rate": 1e-2}
    first = one.train(one.initial, *data, **about, corrections=nothing)
    assert first.gradient.keys() == one.start.trainable.keys() and first.steps == 1
    # Of one step of SGD with Nesterov momentum 0.9: w - 1.9 · rate · gradient.
    for name, gradient in first.gradient.items():
        moved = one.initial[name] - np.float32(1.9 * 1e-2) * gradient
        assert np.allclose(first.arrays[name], moved, atol=1e-6)
    # Two half batches, between which no weight moves (1e-50 is 0 in float32; a bias of 1e-30 would turn on a ReLU that
    # is at 0): the mean is over steps, not their sum.
    two = trainer(**settings, algorithm__name="scaffold", training__batch_size=2)
    still = two.train(one.initial, *data, **about | {"learning_rate": 1e-50}, corrections=nothing)
    assert still.steps == 2
    assert all(np.allclose(still.gradient[name], gradient, atol=1e-7) for name, gradient in first.gradient.items())
    assert train(trainer(**settings), data).gradient == {}


def test_an_evaluation_tells_the_masks_that_it_counted() -> None:
    one, (images, masks) = trainer(training__augment=False), frames(18)
    evaluation = one.evaluate(learnt(), images, masks)
    assert np.array_equal(evaluation.predicted, one.predict(learnt(), images))
    assert np.array_equal(evaluation.counts, metrics.count_pixels(evaluation.predicted, masks))


def rates(**training: Any) -> list[float]:
    config = tiny(federation__rounds=10, **{f"training__{name}": value for name, value in training.items()})
    return [learning_rate(config, round) for round in range(1, 11)]


def test_cosine_starts_at_the_learning_rate_and_ends_near_zero() -> None:
    found = rates(learning_rate=0.5)
    assert found[0] == 0.5 and found[5] == pytest.approx(0.25)
    assert 0 < found[-1] < 0.03 * 0.5
    assert all(later < earlier for earlier, later in pairwise(found))


def test_constant_stays() -> None:
    assert rates(learning_rate=0.5, schedule="constant") == [0.5] * 10


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_warm_up_rises_linearly_to_the_learning_rate(schedule: str) -> None:
    found = rates(learning_rate=0.4, schedule=schedule, warmup_rounds=3)
    assert found[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert all(0 < rate <= 0.4 for rate in found)
    assert 0 < rates(learning_rate=0.4, schedule=schedule, warmup_rounds=99)[-1] < 0.4


def test_a_trainer_with_a_used_network_gives_the_bits_of_a_new_one() -> None:
    config = tiny(hospitals__count=9, runtime__actors=7, federation__rounds=3, data__phantom_images=20)
    one = shared_trainer(config)
    train(one, frames(8))
    assert shared_trainer(tiny()).network is one.network
    assert same(train(shared_trainer(tiny()), frames(5)), train(trainer(), frames(5)))


def test_a_training_is_a_record_that_nobody_changes() -> None:
    trained = train(trainer(), frames(2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        trained.loss = 0.0  # type: ignore[misc]


def test_the_next_batch_is_made_while_a_step_runs_and_a_fault_in_it_reaches_the_caller() -> None:
    second_is_made = threading.Event()

    def batches() -> Iterator[int]:
        yield 1
        second_is_made.set()
        yield 2
        raise ValueError("the third")

    coming = _one_ahead(batches())
    assert next(coming) == 1 and second_is_made.wait(60)
    assert next(coming) == 2
    with pytest.raises(ValueError, match="the third"):
        next(coming)
    assert list(_one_ahead(iter("abc"))) == ["a", "b", "c"]
