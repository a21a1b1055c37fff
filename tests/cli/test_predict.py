"""`fedpolyp predict` leaves masks, overlays and tables of all that can be read, and says what cannot."""

import csv
import shutil
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from fedpolyp.inference.predictor import Predictor
from tests.command import exit_code


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes what is red for polyp; it says nothing of itself."""
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    layer = keras.layers.Conv2D(1, 1, activation="sigmoid")
    network = keras.Model(inputs, layer(keras.layers.Rescaling(1 / 255)(inputs)))
    layer.set_weights([np.array([40.0, -20, -20]).reshape(1, 1, 3, 1), np.array([-10.0])])
    network.save(path := tmp_path_factory.mktemp("model") / "red.keras")
    return path


def called(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    return exit_code(monkeypatch, "predict", *arguments)


def draw(path: Path, red: tuple[slice, slice]) -> Path:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[red] = (0, 0, 255)
    cv2.imwrite(str(path), pixels)
    return path


def test_each_picture_has_a_mask_an_overlay_and_rows(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "one.png", (slice(16, 32), slice(24, 48)))
    draw(tmp_path / "two.png", (slice(0, 0), slice(0, 0)))
    assert (
        called(monkeypatch, "--model", model, "--out", tmp_path / "out", tmp_path / "one.png", tmp_path / "two.png")
        == 0
    )
    said = capsys.readouterr().out
    assert "red.keras: it has no description" in said and "2 images, " in said
    mask = cv2.imread(str(tmp_path / "out" / "masks" / "one.png"), cv2.IMREAD_UNCHANGED)
    truth = np.zeros((64, 96), bool)
    truth[16:32, 24:48] = True
    assert mask is not None and mask.shape == (64, 96) and set(np.unique(mask)) == {0, 255}
    assert (np.equal(mask, 255) != truth).mean() < 0.02  # the border alone, by the way down and up again
    overlay = cv2.imread(str(tmp_path / "out" / "overlays" / "one.jpg"))
    assert overlay is not None and overlay.shape == (64, 96, 3)
    with (tmp_path / "out" / "predictions.csv").open(newline="") as stream:
        one, two = csv.DictReader(stream)
    assert (one["name"], one["width"], one["height"], one["lesions"]) == ("one", "96", "64", "1")
    assert (two["name"], two["lesions"], two["area"]) == ("two", "0", "0.0") and float(two["confidence"]) > 0.99
    with (tmp_path / "out" / "lesions.csv").open(newline="") as stream:
        (lesion,) = csv.DictReader(stream)
    box = [int(lesion[name]) for name in ("left", "top", "width", "height")]
    assert np.abs(np.array(box) - [24, 16, 24, 16]).max() <= 2


def test_what_cannot_be_read_is_named_with_exit_code_1_and_the_rest_is_there(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "good.png", (slice(8, 24), slice(8, 24)))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert called(monkeypatch, "--model", model, "--out", tmp_path / "out", "-q", tmp_path) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("fedpolyp: 1 of 2 could not be read: ") and "bad.png: " in said.err
    assert (tmp_path / "out" / "masks" / "good.png").exists()
    assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 2


def test_several_models_are_averaged_and_tell_where_they_differ(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = draw(tmp_path / "one.png", (slice(16, 32), slice(24, 48)))
    assert called(monkeypatch, "--model", model, "--model", model, "--out", tmp_path / "out", "-q", image) == 0
    disagreement = cv2.imread(str(tmp_path / "out" / "disagreement" / "one.png"), cv2.IMREAD_UNCHANGED)
    assert disagreement is not None and disagreement.max() == 0
    with (tmp_path / "out" / "predictions.csv").open(newline="") as stream:
        assert [row["agreement"] for row in csv.DictReader(stream)] == ["1.0"]


def test_with_temperatures_the_order_of_several_models_does_not_matter(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temperatures, load = {"sure": 1.0, "modest": 4.0}, Predictor.load

    def warmed(path: Path, kind: object) -> Predictor:
        predictor = load(path)
        predictor.temperature = temperatures[path.stem]
        return predictor

    monkeypatch.setattr(Predictor, "load", warmed)
    for name in temperatures:
        shutil.copyfile(model, tmp_path / f"{name}.keras")
    reds = np.linspace(0, 255, 96).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "one.png"), np.stack([0 * reds, 0 * reds, reds], 1)[None].repeat(64, 0))
    masks = []
    for names in (("sure", "modest"), ("modest", "sure")):
        models = [word for name in names for word in ("--model", tmp_path / f"{name}.keras")]
        out = tmp_path / names[0]
        options = ("--threshold", "0.2", "--calibrated", "-q", "--out", out)
        assert called(monkeypatch, *models, *options, tmp_path / "one.png") == 0
        masks.append((out / "masks" / "one.png").read_bytes())
    assert masks[0] == masks[1]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--threshold", "1"], "--threshold must be above 0 and below 1, or 'validation'; got 1"),
        (["--model", "nowhere"], "a model is a run, or a file saved as .keras; got 'nowhere'"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path,
    model: Path,
    more: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = draw(tmp_path / "one.png", (slice(8, 24), slice(8, 24)))
    assert called(monkeypatch, "--model", model, "--out", tmp_path / "out", *more, image) == 2
    assert capsys.readouterr().err == f"fedpolyp: {sentence}\n"
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = draw(tmp_path / "one.png", (slice(8, 24), slice(8, 24)))
    assert called(monkeypatch, "--model", model, "--out", tmp_path, image) == 2
    assert "--out must be a new or an empty folder" in capsys.readouterr().err


def test_nothing_is_written_into_a_run(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = draw(tmp_path / "one.png", (slice(8, 24), slice(8, 24)))
    for name in ("config.toml", "partition.json"):
        (tmp_path / name).touch()
    assert called(monkeypatch, "--model", model, "--out", tmp_path / "out", image) == 2
    assert "is the folder of a single run, where nothing else is written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
