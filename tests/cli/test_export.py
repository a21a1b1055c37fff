"""`fedpolyp export` says how far the export is from the model, and in one sentence what was wrong."""

import json
import zipfile
from pathlib import Path

import keras
import pytest

from fedpolyp.model.weights import MEMBER
from tests.command import exit_code
from tests.exported import SIDE, red_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return red_model(tmp_path_factory.mktemp("model") / "red.keras")


def called(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    return exit_code(monkeypatch, "export", *arguments)


def test_it_says_how_far_the_export_is_from_the_model_and_nothing_else(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "--model", model, "--to", "onnx", "--out", tmp_path / "out") == 0
    said = capfd.readouterr()  # of C++, too
    difference = json.loads((tmp_path / "out" / "export.json").read_text())["check"]["largest_difference"]
    assert said.out.splitlines() == [
        f"{model}: it has no description",
        f"checked on 8 images (4 phantom frames, 4 of noise): probabilities differ from Keras's by at most "
        f"{difference:.2g}; 0.0001 is allowed",
        f"export: {tmp_path / 'out'}",
    ]
    assert said.err == ""


def test_a_check_that_says_little_is_said_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = keras.Input((SIDE, SIDE, 3))
    layer = keras.layers.Conv2D(1, 1, activation="sigmoid", kernel_initializer="zeros")
    keras.Model(image, layer(image)).save(tmp_path / "flat.keras")
    assert called(monkeypatch, "--model", tmp_path / "flat.keras", "--to", "huggingface", "--out", tmp_path / "o") == 0
    assert "probabilities from 0.5 to 0.5, so the check says little" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("name", "content", "code", "sentence"),
    [
        ("nowhere", None, 2, "a model is a run, or a file saved as .keras; got "),
        ("empty.keras", b"", 1, "is not a model saved as .keras"),
        ("damaged.keras", {MEMBER: "{"}, 1, f"is damaged: {MEMBER} in it: "),
        ("hollow.keras", {"config.json": "{}"}, 1, "cannot be opened as a Keras model: "),
    ],
)
def test_what_is_no_model_is_one_sentence_and_leaves_nothing(
    name: str,
    content: bytes | dict[str, str] | None,
    code: int,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(*next(iter(content.items())))
    assert called(monkeypatch, "--model", tmp_path / name, "--to", "savedmodel", "--out", tmp_path / "out") == code
    said = capsys.readouterr().err
    assert said.startswith("fedpolyp: ") and sentence in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_format_that_is_not_known_is_one_sentence(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "--model", model, "--to", "pickle", "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith("fedpolyp: --to must be one of huggingface, ")


def test_a_folder_that_holds_something_and_a_run_are_left_alone(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full, run = tmp_path / "full", tmp_path / "run"
    for folder, names in ((full, ["x"]), (run, ["config.toml", "partition.json"])):
        folder.mkdir()
        for name in names:
            (folder / name).touch()
    assert called(monkeypatch, "--model", model, "--to", "huggingface", "--out", full) == 2
    assert f"--out must be a new or an empty folder; {full} is not empty" in capsys.readouterr().err
    assert called(monkeypatch, "--model", model, "--to", "huggingface", "--out", run / "export") == 2
    assert "is the folder of a single run, where nothing else is written" in capsys.readouterr().err
    assert [path.name for path in full.iterdir()] == ["x"] and len(list(run.iterdir())) == 2
