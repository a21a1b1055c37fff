"""A model card tells what is known, and says of the rest that it is not."""

import json
import os
import re
import zipfile
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import yaml

from fedpolyp import __version__
from fedpolyp.data.source import open_source
from fedpolyp.experiment.analysis import analyse
from fedpolyp.inference.about import About, about
from fedpolyp.inference.export.card import card
from fedpolyp.inference.export.subject import Subject
from fedpolyp.inference.predictor import Predictor
from fedpolyp.model.weights import MEMBER
from fedpolyp.runs import RunFolder
from tests.exported import exported, red_model
from tests.fake_comparison import write_comparison


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of phantom frames whose model nobody has trained."""
    (made,) = write_comparison(tmp_path_factory.mktemp("runs"), ("fedavg",))
    store = open_source(made.config().data, made.config().data_seed)
    rounds: dict[Literal["last", "best"], int] = {"last": 12, "best": 10}
    for kind, round in rounds.items():
        file = red_model(made.model_file(kind), side=64)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(MEMBER, about(made, kind, round, store=store).model_dump_json())
    return made


@pytest.fixture(scope="module")
def out(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of its last model."""
    folder = tmp_path_factory.mktemp("export") / "out"
    exported(run.path, "huggingface", folder)
    return folder


def told(model: Path, settings: str, heldout: int = 9, learnt_from: tuple[str, ...] = ("ab",)) -> str:
    """The card of a model that says these settings of its run."""
    own = {"heldout": heldout, "learnt_from": learnt_from}
    says = About(kind="last", round=3, rounds=4, image_size=32, dice=0.625, config=settings, **own)
    return card(Subject(Predictor(Predictor.load(model).model, says, model), "last"))


def test_the_folder_is_whole_and_names_no_path(run: RunFolder, out: Path) -> None:
    assert {path.name for path in out.iterdir()} == {"model.keras", "config.json", "README.md", "export.json"}
    assert (out / "model.keras").read_bytes() == run.model_file("last").read_bytes()
    with zipfile.ZipFile(out / "model.keras") as archive:
        held = [archive.read(name) for name in archive.namelist()]
    for content in [*held, *(path.read_bytes() for path in out.iterdir())]:
        for place in (run.path, out, Path.home(), Path.cwd(), Path(os.environ["FEDPOLYP_STORES"])):
            assert str(place).encode() not in content
    config = json.loads((out / "config.json").read_text())
    assert (config["image_size"], config["threshold"], config["library_name"]) == (64, 0.5, "keras")
    assert config["temperature_of_validation"] is None  # nobody has fitted one
    assert config["fedpolyp"]["algorithm"]["name"] == "fedavg"


def test_the_head_of_the_card_is_what_the_hub_reads(run: RunFolder, out: Path) -> None:
    _, head, _ = (out / "README.md").read_text().split("---\n", 2)
    read = yaml.safe_load(head)
    assert (read["license"], read["library_name"], read["pipeline_tag"]) == ("unknown", "keras", "image-segmentation")
    assert {"polyp-segmentation", "medical"} <= set(read["tags"]) and read["metrics"] == ["dice", "iou"]
    (result,) = read["model-index"][0]["results"]
    last = analyse([run]).arms[0].last
    assert {one["type"]: one["value"] for one in result["metrics"]} == {
        name: round(last[name].value, 4) for name in ("dice", "iou")
    }


def test_the_card_has_the_runs_scores_with_intervals_its_hospitals_and_its_hours(run: RunFolder, out: Path) -> None:
    text, arm = (out / "README.md").read_text(), analyse([run]).arms[0]
    dice = arm.last["dice"]
    assert f"| Dice | {dice.value:.3f} | {dice.low:.3f} to {dice.high:.3f} |" in text
    for name, own in run.partition().hospitals.items():
        assert f"| {name} | {len(own.train)} | {len(own.val)} | {len(own.test)} |" in text
        assert f"| {name} | {arm.own_tests[name].value:.3f} |" in text
    assert "**It has never seen a real polyp.**" in text and "**This is not a medical device.**" in text
    assert "Hours used: 0.03, as recorded for 12 rounds" in text  # 13 records of 8.5 s
    assert "whether a GPU was used is not known" in text and "It must not be used to diagnose" in re.sub(
        r"\s+", " ", text
    )
    assert "nothing: it began with random weights" in text
    for part in ("Model Details", "Uses", "Bias, Risks, and Limitations", "Training Details", "Evaluation", "Citation"):
        assert f"\n## {part}\n" in text


def test_the_model_that_was_best_on_validation_has_scores_of_its_own(run: RunFolder) -> None:
    text, best = card(Subject.load(run.path, "best")), analyse([run]).arms[0].best["dice"]
    assert f"| Dice | {best.value:.3f} | {best.low:.3f} to {best.high:.3f} |" in text
    assert "best on validation images" in text and "On each hospital's own test images" not in text


def test_the_lines_that_load_it_see_what_predict_sees(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall("```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    image = np.random.default_rng(3).integers(0, 256, (90, 70, 3), np.uint8)
    cv2.imwrite(str(out / "image.png"), image[..., ::-1])
    monkeypatch.chdir(out)
    names: dict[str, np.ndarray] = {}
    exec(code, names)
    (seen,) = Predictor.load(out / "model.keras").see([image])
    assert names["mask"].shape == (90, 70) and 0 < seen.mask.mean() < 1
    assert (names["mask"] == (seen.mask == 1)).all()


def test_of_a_model_from_elsewhere_nothing_is_made_up(tmp_path: Path) -> None:
    subject = exported(red_model(tmp_path / "red.keras"), "huggingface", tmp_path / "out")
    assert subject.about is None
    text = (tmp_path / "out" / "README.md").read_text()
    for sentence in (
        "It does not say where it comes from.",
        "Which images it learnt from is not known.",
        "**Finetuned from:** not known",
        "Its scores are not known.",
        "How many images each hospital had is not known.",
        "Hardware and hours are not known",
        "| algorithm | not known |",
        "- Images: not known.",
    ):
        assert sentence in text
    assert "model-index" not in text and __version__ in text


def test_where_images_and_weights_come_from_is_told_with_their_licences(tmp_path: Path) -> None:
    model = red_model(tmp_path / "red.keras")
    text = told(
        model,
        '[data]\nsource = "kvasir-seg+etis"\n[model]\nencoder = "efficientnet-lite0"\nencoder_weights = "imagenet"\n'
        f'encoder_sha256 = "{"5" * 64}"\n',
    )
    assert "Images called kvasir-seg+etis: not known for certain." in text
    assert "If they are those of Kvasir-SEG: For research and education only" in text and "Jha, Smedsrud" in text
    assert "EfficientNet-Lite0, trained by Google on ImageNet-1k and published under Apache-2.0" in text
    assert f"SHA-256 of the file: {'5' * 64}" in text
    assert "Mean Dice 0.625 on 9 held-out images, as the model says of itself. Its interval is not known." in text
    # A folder can be called so, too: only a run knows.
    assert "if they were, it has never seen a real polyp" in told(model, '[data]\nsource = "phantom"\n')


def test_of_images_at_real_sites_nothing_is_made_up(tmp_path: Path) -> None:
    model = red_model(tmp_path / "red.keras")
    # What a run at sites has in the place of a source that nobody gave; with one, it is what the coordinator held out.
    unknown = told(model, '[data]\nsource = "phantom"\n[hospitals]\nscheme = "iid"\n', heldout=0, learnt_from=())
    assert "Images of real sites, which keep them to themselves: which they are is not known." in unknown
    assert "phantom" not in unknown and "Mean Dice 0.625 on the sites' own test images" in unknown
    assert "iid" not in unknown and "- Images: not known." in unknown and "had is not known." in unknown
    held_out = told(model, '[data]\nsource = "kvasir-seg"\n', learnt_from=())
    assert 'name: "kvasir-seg, held-out images"' in held_out and "For research and education" not in held_out
    assert "which they are is not known." in held_out


def test_what_somebody_else_wrote_stays_text(tmp_path: Path) -> None:
    hostile = 'x](http://evil) <script>|\\n---\\n# Title"'
    text = told(
        red_model(tmp_path / "red.keras"), f'[data]\nsource = "{hostile[:-1]}\\""\n[algorithm]\nname = ["a|b"]\n'
    )
    _, head, body = text.split("---\n", 2)
    (result,) = yaml.safe_load(head)["model-index"][0]["results"]
    assert result["dataset"]["type"].startswith("x](http://evil) <script>|")
    assert r"x\](http://evil) \<script\>\|" in body and "\n# Title" not in body
    assert r"a\|b" in body
