"""An export that is not the model, or not whole, is not left anywhere."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.inference.export.export import export
from fedpolyp.inference.export.format import Format, Written
from fedpolyp.inference.export.subject import Subject
from fedpolyp.inference.predictor import Field, Pixels
from tests.exported import SIDE, red_model


class Copy(Format):
    """Sees what the model sees, and so much more."""

    def __init__(self, more: float = 0.0, error: type[BaseException] | None = None) -> None:
        self.more, self.error = more, error

    def write(self, subject: Subject, folder: Path) -> Written:
        self.model = subject.predictor
        (folder / "inside").mkdir()
        (folder / "inside" / "model").write_bytes(b"network")
        (folder / "other").write_bytes(b"text")
        if self.error is not None:
            raise self.error("something")
        return Written("inside/model")

    def probabilities(self, folder: Path, written: Written, squares: Pixels) -> Field:
        assert (folder / written.file).exists()
        return self.model.probabilities(squares) + np.float32(self.more)

    def reader(self) -> str:
        return "copy 1"


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject.load(red_model(tmp_path_factory.mktemp("model") / "red.keras"))


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("there", [False, True])
def test_what_is_the_model_is_left_with_the_facts(subject: Subject, tmp_path: Path, there: bool) -> None:
    out = tmp_path / "new" / "out"
    if there:
        out.mkdir(parents=True)
    check = export(subject, "copy", Copy(5e-6), out)
    assert everything(out) == ["export.json", "inside", "inside/model", "other"]
    assert everything(tmp_path / "new") == ["out", *(f"out/{name}" for name in everything(out))]
    mask = os.umask(0)
    os.umask(mask)
    assert out.stat().st_mode & 0o777 == 0o777 & ~mask
    told = json.loads((out / "export.json").read_text())
    assert told["format"] == "copy" and told["file"] == "inside/model" and told["threshold"] == 0.5
    assert told["input"]["range"] == [0, 255] and told["input"]["shape"] == [None, SIDE, SIDE, 3]
    assert told["check"]["largest_difference"] == check.difference == pytest.approx(5e-6, rel=0.1)
    assert told["check"]["bound"] == 1e-4 and told["check"]["read_by"] == "copy 1"
    assert told["model"]["says"] is None and told["model"]["sha256"] == subject.sha256
    assert str(tmp_path) not in (out / "export.json").read_text()


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(
    ("format", "error", "sentence"),
    [
        (
            Copy(2e-4),
            FedpolypError,
            "the export to copy is not the model: on 8 images .* differ from Keras's by up to ",
        ),
        (Copy(float("nan")), FedpolypError, "differ from Keras's by up to inf, where 0.0001 is allowed"),
        (Copy(error=OSError), OSError, "something"),
        (Copy(error=KeyboardInterrupt), KeyboardInterrupt, "something"),
    ],
)
def test_what_is_not_the_model_or_breaks_off_leaves_nothing(
    subject: Subject, tmp_path: Path, there: bool, format: Copy, error: type[BaseException], sentence: str
) -> None:
    if there:
        (tmp_path / "out").mkdir()
    with pytest.raises(error, match=sentence):
        export(subject, "copy", format, tmp_path / "out")
    assert everything(tmp_path) == (["out"] if there else [])


def test_a_folder_that_cannot_be_made_is_refused(subject: Subject, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot make the folder .*out: "):
        export(subject, "copy", Copy(), tmp_path / "file" / "out")
