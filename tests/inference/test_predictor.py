"""A saved model is all that it takes to find polyps, and it sees what the run's own scores say."""

import tomllib
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from fedpolyp.config import to_toml
from fedpolyp.data.source import open_source
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.inference.about import about, read_about
from fedpolyp.inference.calibration import fitted
from fedpolyp.inference.predictor import Predictor, Seen
from fedpolyp.model.weights import MEMBER
from fedpolyp.report.finish import finish
from fedpolyp.runs import RoundRecord, RunFolder
from tests.real_sites import draw_images
from tests.tiny import carry_here, tiny_config, tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run in float32, as saved models compute."""
    config = tiny_config(training__precision="float32", federation__rounds=2)
    made = tiny_run(tmp_path_factory.mktemp("runs") / "run", config)
    carry_here(made, config)
    finish(made, open_source(config.data, config.seed))
    return made


def test_it_sees_in_the_held_out_images_what_the_run_has_scored(run: RunFolder) -> None:
    store = open_source(run.config().data, run.config().data_seed)
    squares = store.images[store.positions(run.partition().heldout)]
    predictor = Predictor.load(run.path)
    assert ((predictor.probabilities(squares) >= 0.5) == run.predictions()["last"]).all()
    assert all(
        (seen.mask == mask).all()
        for seen, mask in zip(predictor.see(list(squares)), run.predictions()["last"], strict=True)
    )


def test_a_model_says_of_itself_what_it_is_and_keras_opens_it_without_us(run: RunFolder) -> None:
    told, last = read_about(run.model_file("last")), run.rounds()[-1]
    assert told is not None and (told.kind, told.round, told.rounds) == ("last", 2, 2)
    assert (told.dice, told.val_dice, told.heldout) == (last["dice"], last["val_dice"], len(run.partition().heldout))
    assert tomllib.loads(told.config)["training"] == tomllib.loads(run.config_file.read_text())["training"]
    assert told.image_size == 32
    digest = run.digest()
    assert digest is not None and (told.partition, told.files) == (digest.partition, digest.files)
    best = read_about(run.model_file("best"))
    assert best is not None and best.kind == "best"
    assert best.dice == run.rounds()[best.round]["dice"]
    import keras

    assert keras.saving.load_model(run.model_file("last")).input_shape == (None, 32, 32, 3)


def test_a_model_keeps_what_fits_its_probabilities_to_the_validation_images_as_hospitals_have_them(
    run: RunFolder, tmp_path: Path
) -> None:
    partition, predictor = run.partition(), Predictor.load(run.path)
    store = open_source(run.config().data, run.config().data_seed)
    ids = [id for name in sorted(partition.hospitals) for id in partition.hospitals[name].val]
    rows = store.positions(ids)
    found = fitted(predictor.probabilities(store.images[rows]), store.masks[rows])
    assert predictor.best_threshold == found.threshold
    assert predictor.temperature == pytest.approx(found.temperature, rel=1e-3)
    config = tiny_config(federation__rounds=1, hospitals__val=0.0)
    without = tiny_run(tmp_path / "run", config)
    carry_here(without, config)
    finish(without, store)
    assert Predictor.load(without.path).temperature is None and Predictor.load(without.path).best_threshold is None


def test_a_model_names_no_path_of_the_machine_it_was_made_on(tmp_path: Path) -> None:
    folder = draw_images(tmp_path / "patients", 40)
    config = tiny_config(data__source=str(folder), federation__rounds=1)
    run = tiny_run(tmp_path / "run", config)
    carry_here(run, config)
    told = about(run, "last", 1).model_dump_json()
    assert str(tmp_path) not in told and "patients" in told


def test_a_model_names_no_path_of_a_partition_that_came_from_a_file(tmp_path: Path) -> None:
    config = tiny_config(federation__rounds=1)
    first = tiny_run(tmp_path / "first", config)
    partitions = {"partition": str(first.partition_file)}, {"scheme": "file", "csv": str(tmp_path / "mine.csv")}
    for number, partition in enumerate(partitions):
        run = tiny_run(tmp_path / f"run{number}", config)
        given = config.model_copy(update={"hospitals": type(config.hospitals).model_validate(partition)})
        run.config_file.write_text(to_toml(given))
        run.append_round(RoundRecord(0, {"dice": 0.5, "iou": 0.4, "loss": 1.0}).to_plain())
        told = about(run, "last", 0).model_dump_json()
        assert str(tmp_path) not in told and ("partition.json" in told or "mine.csv" in told)


@pytest.mark.parametrize("size", [(32, 32), (50, 80), (33, 17), (1, 1)])
def test_masks_are_of_the_images_own_size_whatever_that_is(run: RunFolder, size: tuple[int, int]) -> None:
    (seen,) = Predictor.load(run.path).see([np.full((*size, 3), 90, np.uint8)])
    assert seen.mask.shape == seen.probability.shape == size
    assert 0 <= seen.probability.min() <= seen.probability.max() <= 1 and 0.5 <= seen.confidence <= 1


def test_mirror_images_are_averaged_where_they_lie_on_each_other(run: RunFolder) -> None:
    predictor, rng = Predictor.load(run.path), np.random.default_rng(0)
    square = rng.integers(0, 256, (1, 32, 32, 3), np.uint8)
    plain = predictor.probabilities(square)
    across = predictor.probabilities(square[:, :, ::-1])[:, :, ::-1]
    both = [
        predictor.probabilities(np.ascontiguousarray(square[:, ::d, ::a]))[:, ::d, ::a]
        for d in (1, -1)
        for a in (1, -1)
    ]
    np.testing.assert_allclose(predictor.probabilities(square, flips=True), np.mean(both, axis=0), atol=1e-6)
    assert np.abs(plain - across).max() > 1e-4  # the model is no mirror image of itself


def test_a_pixel_at_the_threshold_is_polyp() -> None:
    seen = Seen.of(np.array([[0.5, 0.49]], np.float32), 0.5)
    assert seen.mask.tolist() == [[1, 0]] and len(seen.lesions) == 1


def test_what_is_no_model_is_refused_in_a_sentence(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a model is a run, or a file saved as .keras; got"):
        Predictor.load(tmp_path)
    (tmp_path / "x.keras").write_bytes(b"nothing")
    with pytest.raises(FedpolypError, match="is not a model saved as .keras"):
        Predictor.load(tmp_path / "x.keras")
    with zipfile.ZipFile(tmp_path / "y.keras", "w") as archive:
        archive.writestr(MEMBER, '{"format": 1, "kind": "worst"}')
    with pytest.raises(FedpolypError, match=r"is damaged: fedpolyp.json in it: kind: "):
        Predictor.load(tmp_path / "y.keras")
    with zipfile.ZipFile(tmp_path / "z.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(FedpolypError, match="cannot be opened as a Keras model: "):
        Predictor.load(tmp_path / "z.keras")


def test_a_file_that_holds_code_is_not_run(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((32, 32, 3))
    hostile = keras.Model(inputs, keras.layers.Lambda(lambda x: x[..., :1])(inputs))
    hostile.save(tmp_path / "hostile.keras")
    with pytest.raises(FedpolypError, match="cannot be opened as a Keras model: "):
        Predictor.load(tmp_path / "hostile.keras")


def test_a_model_for_other_images_is_refused(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((32, 48, 3))
    keras.Model(inputs, keras.layers.Conv2D(1, 1)(inputs)).save(tmp_path / "wide.keras")
    with pytest.raises(FedpolypError, match=r"is no model of \(N, S, S, 3\) to \(N, S, S, 1\); it is of "):
        Predictor.load(tmp_path / "wide.keras")


def test_the_image_is_resized_as_in_training(run: RunFolder) -> None:
    rng, predictor = np.random.default_rng(1), Predictor.load(run.path)
    image = rng.integers(0, 256, (64, 96, 3), np.uint8)
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).astype(np.uint8)
    expected = cv2.resize(predictor.probabilities(small[None])[0], (96, 64), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(predictor.at_own_size([image])[0], np.clip(expected, 0, 1))
