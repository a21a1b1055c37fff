import csv
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.data.source import open_source
from fedpolyp.errors import UsageError
from fedpolyp.experiment.comparison import runs_in
from fedpolyp.inference.corruption import KINDS
from fedpolyp.report.comparison import _promises, write_report
from fedpolyp.report.gallery import outline
from fedpolyp.runs import RunFolder
from tests.browser import browser, chromium
from tests.fake_comparison import fake_config, rewrite_rounds, write_comparison, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("comparison")
    runs = write_comparison(path)
    write_report(path, runs, "fedpolyp compare --out <somewhere>")
    return path


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


class Text(HTMLParser):
    """The text of each element of one kind, and every address that the page asks for."""

    def __init__(self, kind: str, page: str) -> None:
        super().__init__()
        self.kind, self.found, self._inside = kind, [""], 0
        self.addresses: list[str | None] = []
        self.feed(page)
        self.found = [" ".join(text.split()) for text in self.found if text.strip()]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")]
        if tag == self.kind:
            self._inside += 1
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside -= tag == self.kind
        self.handle_data(" ")  # the cells of a row are words of their own

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found[-1] += data


def headline(folder: Path, arm: str) -> float:
    """The arm's Dice by csv and arithmetic alone."""
    dices = []
    with (folder / arm / "0" / "images.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            if row["set"] == "heldout" and row["model"].startswith("last"):
                tp, fp, fn = int(row["tp"]), int(row["fp"]), int(row["fn"])
                dices.append(2 * tp / (2 * tp + fp + fn))
    return sum(dices) / len(dices)


def test_an_unseen_source_has_a_section_a_column_and_a_panel(tmp_path: Path) -> None:
    page = write_report(tmp_path, write_comparison(tmp_path, ("pooled", "fedavg"), unseen="a <b>")).read_text()
    assert (
        "A hospital that took no part" in page
        and "a &lt;b&gt; (unseen)" in page
        and "<b>" not in page.split("<body>")[1].split("</small>")[0]
    )
    assert page.count(" of a &lt;b&gt;, unseen</h3>") == 3 and page.count("<figcaption><span") == 2 * 9
    assert (tmp_path / "figures" / "unseen-a__b__1.png").exists()
    assert (tmp_path / "tables" / "unseen.csv").read_text().count("a <b>") == 2


def test_fine_tuned_models_stand_beside_the_global_one_in_tables_and_chart(tmp_path: Path) -> None:
    page = write_report(tmp_path, write_comparison(tmp_path, ("fedavg", "finetune"))).read_text(encoding="utf-8")
    with (tmp_path / "tables" / "own-tests.csv").open() as file:
        written = [row for row in csv.DictReader(file) if row["arm"] == "finetune"]
    assert [row["model"] for row in written] == ["last"] * 3 + ["own"] * 3
    cells = Text("th", page).found
    assert cells.count("Fine-tuned FedAvg, global model") == cells.count("Fine-tuned FedAvg, own models") == 2
    weakest = min(written[3:], key=lambda row: float(row["dice"]))
    row = f"Fine-tuned FedAvg, own models {weakest['hospital']} {float(weakest['dice']):.3f} "
    assert sum(text.startswith(row) for text in Text("tr", page).found) == 1
    assert f"Fine-tuned FedAvg, own models: hospital-1 {float(written[3]['dice']):.3f}, " in page  # of the chart


@pytest.mark.usefixtures("undrawn")
def test_an_arm_with_privacy_has_no_hospitals_scores_and_its_promise_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = write_comparison(tmp_path, arms=["fedavg", "private:fedadam"])
    config = runs[1].config_file
    config.write_text(
        re.sub('^mode = "off"', 'mode = "local"', config.read_text(), flags=re.MULTILINE).replace('"batch"', '"group"')
    )
    promised = {"units": 20, "epsilon": 7.5, "noisy_test_dice": 0.712, "noise_deviation": 0.05}
    hospitals = dict.fromkeys(runs[1].partition().hospitals, promised)
    rewrite_rounds(runs[1], val_dice=None, hospitals=hospitals)
    runs[1].rounds_file.write_text(runs[1].rounds_file.read_text().replace('"dice"', '"val_dice": null, "dice"'))
    rows = [line for line in runs[1].images_file.read_text().splitlines() if ",test:" not in line]
    runs[1].images_file.write_text("\n".join(rows) + "\n")
    page = write_report(tmp_path, runs).read_text(encoding="utf-8")
    own_tests = (tmp_path / "tables" / "own-tests.csv").read_text().splitlines()
    assert {row.split(",")[0] for row in own_tests[1:]} == {"fedavg"}
    assert page.count("Privacy: epsilon 7.50 at delta 0.001 for each group of near-duplicates") == 1
    analysis: Any = SimpleNamespace(arms=[SimpleNamespace(label="a", runs=runs[1:], seeds=[0])])
    ((_, simulated), _) = _promises(analysis)
    monkeypatch.setattr(RunFolder, "partition", lambda run: Partition((), {}))  # as of real sites
    ((_, real), (_, scored)) = _promises(analysis)
    assert "simulation" in simulated and "simulation" not in real and "Each site has divided" in scored
    assert page.count("test images, with noise: hospital-1 0.71 ± 0.10, hospital-2 0.71 ± 0.10, hospital-3") == 1


@pytest.mark.usefixtures("undrawn")
def test_pictures_of_a_source_that_are_gone_leave_the_others(tmp_path: Path) -> None:
    runs = write_comparison(tmp_path, ("pooled", "fedavg"), unseen="far")
    runs[0].predictions_file("far").unlink()
    page = write_report(tmp_path, runs).read_text()
    assert "There are no pictures of a set: predictions-far.npz of pooled/0 cannot be used." in page
    assert page.count("<figcaption><span") == 9


def test_the_headline_follows_from_the_scored_images_alone(folder: Path, page: str) -> None:
    pooled, local, fedavg = (headline(folder, arm) for arm in ("pooled", "local", "fedavg"))
    (answer,) = Text("h1", page).found
    assert answer == (
        f"The FedAvg model trained here reaches a mean Dice of {fedavg:.3f} on 30 images that no hospital has seen: "
        f"{pooled - fedavg:.3f} less than the pooled model ({pooled:.3f}), and {fedavg - local:.3f} more than the "
        f"hospitals' own models ({local:.3f})."
    )


def test_the_page_asks_for_nothing_outside_itself_and_is_small(folder: Path, page: str) -> None:
    assert all(address and address.startswith(("data:", "#")) for address in Text("h1", page).addresses)
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", page) and "@import" not in page
    assert "<script" not in page
    assert (folder / "report.html").stat().st_size < 5e6


def test_the_page_tells_the_command_the_partition_and_every_section(folder: Path, page: str) -> None:
    assert "--out &lt;somewhere&gt;" in page
    sections = Text("h2", page).found
    assert len(sections) == 9 and sections[-1] == "How it was made"
    cells = Text("tr", page).found
    own = Partition.load(folder / "fedavg" / "0" / "partition.json").hospitals["hospital-3"]
    assert any(cell.startswith(f"hospital-3 {len(own.train)} {len(own.val)} {len(own.test)}") for cell in cells)
    assert any(cell.startswith("FedAvg minus Pooled") for cell in cells)


def test_every_picture_is_named_and_no_two_things_have_one_id(page: str) -> None:
    pictures = re.findall(r"<svg[^>]*>", page)
    assert len(pictures) > 10
    assert all('role="img"' in one and ("aria-label=" in one or "aria-labelledby=" in one) for one in pictures)
    assert all(re.search(r'alt="[^"]+"', one) for one in re.findall(r"<img[^>]*>", page))
    ids = re.findall(r'\sid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    for used in re.findall(r'(?:url\(#|href="#|aria-labelledby=")([^)"]+)', page):
        assert used in ids


def test_figures_and_tables_lie_beside_the_page_and_agree_with_it(folder: Path) -> None:
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    names = {"arms", "rounds", "own-tests", "lesion-size", *(f"validation-hospital-{n}" for n in (1, 2, 3))}
    assert figures == names
    assert all(cv2.imread(str(path)) is not None for path in (folder / "figures").iterdir())
    with (folder / "tables" / "arms.csv").open(newline="") as stream:
        rows = {(row["arm"], row["model"], row["score"]): float(row["value"]) for row in csv.DictReader(stream)}
    assert rows["local", "last", "dice"] == pytest.approx(headline(folder, "local"), abs=1e-6)
    for name in ("differences", "sites", "own-tests", "lesion-size", "curves", "cost"):
        assert (folder / "tables" / f"{name}.csv").read_text().count("\n") > 1


def test_the_page_tells_the_way_of_the_images_what_is_missed_and_by_which_hashes_they_are_known(
    folder: Path, page: str
) -> None:
    text = " ".join(Text("section", page).found)
    assert "150 pairs of image and mask were found, and none was left out." in text
    digest = runs_in(folder)[0].digest()
    assert digest is not None and digest.partition[:16] in page and str(digest.files)[:16] in page
    rows = [row for row in Text("tr", page).found if row.startswith(("Pooled 3", "Local 3", "FedAvg 3"))]
    assert len(rows) == 3 and all("%)" in row for row in rows)


def test_probabilities_and_worse_images_are_on_the_page_where_they_were_measured(tmp_path: Path) -> None:
    runs = write_comparison(tmp_path, ("pooled", "fedavg"))
    page = write_report(tmp_path, runs).read_text()
    assert "Are the probabilities calibrated?" not in page and "<h2>Robustness" not in page
    header = "model,probabilities,bin,mean_probability,share_polyp,pixels\n"
    for run, share in zip(runs, (0.5, 0.8), strict=True):
        rows = f"last,as given,9,0.9,{share},100\nlast,with temperature,8,0.8,{share},100\n"
        run.calibration_file.write_text(header + rows)
    scores = "".join(f"last,{kind},{at},0.{at}{place}\n" for place, kind in enumerate(KINDS) for at in (1, 2, 3))
    runs[1].robustness_file.write_text("model,kind,severity,dice\n" + scores)
    page = write_report(tmp_path, runs).read_text()
    shown = Text("tr", page).found
    assert "Pooled 0.4000 0.3000" in shown and "FedAvg 0.1000 0.0000" in shown
    (worse,) = [
        row
        for row in shown
        if row.endswith(
            " 0.100 0.200 · 0.300 0.110 0.210 · 0.310 0.120 0.220 · 0.320 0.130 0.230 · 0.330 0.140 0.240 · 0.340"
        )
    ]
    assert worse.startswith("FedAvg ")
    assert "Pooled: expected calibration error 0.4000" in page and (tmp_path / "figures" / "calibration.png").exists()
    assert (tmp_path / "tables" / "calibration.csv").read_text().splitlines()[1] == "pooled,0.4,0.3"
    assert "fedavg,jpeg,2,0.22" in (tmp_path / "tables" / "robustness.csv").read_text()


def test_seconds_of_runs_that_shared_the_cores_are_not_compared(folder: Path, page: str) -> None:
    assert "second" not in (folder / "tables" / "cost.csv").read_text().splitlines()[0]
    (headings,) = [row for row in Text("tr", page).found if row.startswith("Arm rounds images seen")]
    assert headings == "Arm rounds images seen gradient steps sent by a hospital received by it"
    assert "Seconds are left out because they cannot be compared" in page


def test_the_same_runs_give_the_same_page_and_figures(folder: Path, tmp_path: Path, page: str) -> None:
    write_report(tmp_path, runs_in(folder), "fedpolyp compare --out <somewhere>")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    for figure in (folder / "figures").iterdir():
        assert (tmp_path / "figures" / figure.name).read_bytes() == figure.read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_without_images_or_predictions_the_page_says_why_there_are_no_pictures(tmp_path: Path) -> None:
    (run,) = write_comparison(tmp_path, ("fedavg",))
    run.predictions_file().unlink()
    write_report(tmp_path, [run])
    assert (
        "There are no pictures: predictions.npz of fedavg/0 cannot be used." in (tmp_path / "report.html").read_text()
    )
    run.predictions_file().write_bytes(b"no archive")
    write_report(tmp_path, [run])
    assert "predictions.npz of fedavg/0 cannot be used" in (tmp_path / "report.html").read_text()
    (run.path / "environment.json").write_text("{}")
    write_report(tmp_path, [run])
    page = (tmp_path / "report.html").read_text()
    assert "There are no pictures: the store that the images came from is gone." in page
    assert "data:image" not in page


def test_other_budgets_get_a_figure_by_images_seen(folder: Path, tmp_path: Path) -> None:
    pooled, fedavg = runs_in(folder)[0], fake_config("fedavg", 0, rounds=6)
    store = open_source(fedavg.data, fedavg.data_seed)
    write_report(tmp_path, [pooled, write_run(tmp_path / "fedavg", fedavg, store, pooled.partition())])
    assert (tmp_path / "figures" / "images-seen.png").exists()
    assert "The arms did not see the same number of training images" in (tmp_path / "report.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_a_run_at_real_sites_is_reported_without_what_they_do_not_tell(tmp_path: Path) -> None:
    (run,) = write_comparison(tmp_path, ("fedavg",))
    known = {name: HospitalImages((), (), ()) for name in run.partition().hospitals}
    Partition(run.partition().heldout, known).save(run.partition_file)
    run.digest_file.unlink()  # it speaks of the partition of before
    write_report(tmp_path, [run])
    cells = Text("tr", (tmp_path / "report.html").read_text()).found
    assert "hospital-1 0 0 0" in cells


@pytest.mark.usefixtures("undrawn")
def test_arms_of_other_labels_are_told_apart_on_the_page(tmp_path: Path) -> None:
    write_report(tmp_path, write_comparison(tmp_path, ("pooled", "alone:local", "near:fedprox", "far:fedprox")))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    cells = Text("tr", page).found
    for row in ("far minus alone", "far minus Pooled", "near minus alone", "near minus Pooled", "alone minus Pooled"):
        assert any(cell.startswith(row) for cell in cells)
    assert {"hospital-1, alone", "hospital-3, alone"} <= {" ".join(cell.split()[:2]) for cell in cells}
    assert "; for alone the mean over the hospitals" in page and "; for alone, a thin line for each" in page
    colours = dict(re.findall(r'class="dot" style="background:(#\w+)"></span>([\w-]+)', page))
    assert sorted(colours.values()) == ["Pooled", "alone", "far", "near"]  # no two have one colour


def test_an_outline_lies_on_the_border_of_its_mask() -> None:
    mask = np.zeros((32, 32), np.uint8)
    assert outline(mask) == ""
    mask[8:24, 8:16] = 1
    points = [tuple(map(float, point.split())) for point in re.findall(r"[\d.]+ [\d.]+", outline(mask))]
    x, y = zip(*points, strict=True)
    assert (min(x), max(x), min(y), max(y)) == pytest.approx((25, 50, 25, 75), abs=1.0)


def test_a_folder_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=f"cannot write the report into {tmp_path / 'file'}"):
        write_report(tmp_path / "file", runs_in(folder)[:1])


@pytest.mark.slow
def test_in_chromium_the_page_has_no_errors_fits_a_phone_and_switches_arms(folder: Path, tmp_path: Path) -> None:
    program = chromium()
    chosen = "document.querySelector('input[name=arm]:checked').nextElementSibling.textContent"
    seen = "[...document.querySelectorAll('.cases g.arm')].filter(e => getComputedStyle(e).display != 'none')"
    classes = f"[...new Set({seen}.map(e => e.classList[1]))].join()"
    with browser(program, tmp_path / "profile") as tab:
        tab.open(folder / "report.html", width=1280)
        assert (tab.evaluate(chosen), tab.evaluate(classes)) == ("FedAvg", "arm-3")
        tab.click("document.querySelectorAll('fieldset label')[0]")
        assert (tab.evaluate(chosen), tab.evaluate(classes)) == ("Pooled", "arm-1")
        assert tab.evaluate(f"{seen}.length") == 9
        tab.press("ArrowRight", 39)
        assert (tab.evaluate(chosen), tab.evaluate(classes)) == ("Local", "arm-2")
        troubles = [tab.problems()]
        tab.open(folder / "report.html", width=400)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 400
        outside = "!e.closest('.scroll, pre') && e.getBoundingClientRect().right > innerWidth + 0.5"
        assert tab.evaluate(f"[...document.querySelectorAll('body *')].filter(e => {outside}).length") == 0
        assert tab.evaluate("document.querySelector('.scroll').scrollWidth") > 368  # the wide table scrolls by itself
        troubles.append(tab.problems())
    assert troubles == [[], []]


def test_each_hospitals_dice_stands_beside_how_many_images_of_which_lesions_it_tests_on(
    folder: Path, page: str
) -> None:
    partition = runs_in(folder)[0].partition()
    store = open_source(fake_config("fedavg", 0).data, 0)
    rows = [row for row in Text("tr", page).found if row.startswith("hospital-")]
    with (folder / "tables" / "own-tests.csv").open() as file:
        written = {row["hospital"]: row for row in csv.DictReader(file) if row["arm"] == "fedavg"}
    for name, own in partition.hospitals.items():
        areas = np.array([store.records[row].lesion_fraction for row in store.positions(own.test)])
        counts = [len(areas), *(int(of.sum()) for of in (areas < 0.05, (areas >= 0.05) & (areas <= 0.2), areas > 0.2))]
        dice = f"{float(written[name]['dice']):.3f}"
        assert any(row.startswith(" ".join([name, *map(str, counts)]) + " ") and dice in row for row in rows)
        assert [int(written[name][key]) for key in ("images", "small", "medium", "large")] == counts


def test_the_split_tells_what_each_hospital_holds_and_how_far_it_is_from_all(folder: Path, page: str) -> None:
    with (folder / "tables" / "hospitals.csv").open() as file:
        held = {row["hospital"]: row for row in csv.DictReader(file)}
    assert list(held) == ["hospital-1", "hospital-2", "hospital-3", "held-out"]
    rows = [row for row in Text("tr", page).found if row.startswith("hospital-")]
    for name, own in runs_in(folder)[0].partition().hospitals.items():
        assert int(held[name]["images"]) == len(own.everything)
        wanted = [f"{100 * float(held[name][key]):.1f}" for key in ("lesion_q1", "lesion_median", "lesion_q3")]
        sets = f"{len(own.train)} {len(own.val)} {len(own.test)} {100 * float(held[name]['share']):.1f} %"
        assert any(row.startswith(f"{name} {sets} {', '.join(wanted)} %") for row in rows)
    assert "if images were assigned at random" in page
