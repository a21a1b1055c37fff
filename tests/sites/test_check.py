"""What a site has to mend before it joins is found, one sentence each."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from fedpolyp.cli import app, main
from fedpolyp.config import Config, read, to_toml
from fedpolyp.planning import Machine
from fedpolyp.sites import check
from fedpolyp.sites.connection import Connection
from fedpolyp.sites.images import images_of
from fedpolyp.sites.settings import SiteSettings
from tests.real_sites import make_sites, tiny

GOOD = Connection(300.0, 3000.0, 0.0)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site with nothing to mend, on a good machine, with a coordinator at hand."""
    monkeypatch.setattr(check, "connect", lambda settings: GOOD)
    on_a_machine(monkeypatch, memory=4e9, disk=4e9)
    return make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"


def on_a_machine(monkeypatch: pytest.MonkeyPatch, memory: float, disk: float) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(check, "this_machine", lambda: Machine(2, int(memory), 0, False))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(int(disk)))


def found(site: Path, config: Config | None = None) -> tuple[dict[str, str], dict[str, str]]:
    """What is good and what is to mend, by what it is about."""
    findings = list(check.checks(SiteSettings.load(site / "site.toml"), config or tiny()))
    good, bad = ({one.about: one.text for one in findings if one.good is which} for which in (True, False))
    return good, bad


def rewrite(site: Path, old: str, new: str) -> None:
    file = site / "site.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def split_by(site: Path, **lists: list[str]) -> None:
    (site / "split.json").write_text(json.dumps({"train": [], "val": [], "test": []} | lists))
    rewrite(site, 'file = "" ', 'file = "split.json" ')


def no_answer(settings: SiteSettings) -> Connection:
    raise ConnectionError("cannot reach it")


def test_a_site_that_has_all_it_needs_has_nothing_to_mend(site: Path) -> None:
    good, bad = found(site)
    assert not bad and set(good) == {"key", "disk", "memory", "coordinator", "images", "limits", "training"}
    assert good["images"] == (
        "12 pairs; 10 for training, 1 for validation, 1 for the test; masks by grey level: background 0, lesion 255"
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('unit = "patient"', "[limits] unit 'patient' holds for requests with privacy alone: without"),
        ("delta = 1e-5", "[limits] delta has no effect without [limits] epsilon"),
        ('unit = "image"', ""),  # which allows all
    ],
)
def test_a_limit_that_is_less_than_it_seems_is_found(setting: str, said: str, site: Path) -> None:
    name = setting.split(" = ")[0]
    (line,) = [line for line in (site / "site.toml").read_text().splitlines() if line.startswith(f"{name} = ")]
    rewrite(site, line, setting)
    settings = SiteSettings.load(site / "site.toml")
    assert [one.text[: len(said)] for one in check._budget(settings)] == ([said] if said else [])
    rewrite(site, "# epsilon =", "epsilon = 8.0")
    assert not list(check._budget(SiteSettings.load(site / "site.toml")))


def test_the_experiment_that_is_expected_is_the_one_that_is_tried(site: Path) -> None:
    good, _ = found(site, tiny(data__image_size=48, training__batch_size=3))
    assert "a step of 3 images at 48 pixels" in good["training"]
    assert [folder.name for folder in (site / "private" / "stores").iterdir() if "-48px-" in folder.name]


def spoil_key(site: Path, _: pytest.MonkeyPatch) -> None:
    (site / "site.key").chmod(0o644)


def spoil_mask_key(site: Path, _: pytest.MonkeyPatch) -> None:
    (site / "mask.key").chmod(0o644)


def lose_key(site: Path, _: pytest.MonkeyPatch) -> None:
    (site / "site.key").unlink()


def fill_disk(_: Path, patch: pytest.MonkeyPatch) -> None:
    on_a_machine(patch, memory=4e9, disk=1e9)


def protect_folder(_: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "access", lambda path, mode: False)


def fill_memory(_: Path, patch: pytest.MonkeyPatch) -> None:
    on_a_machine(patch, memory=0.5e9, disk=4e9)


def lose_coordinator(_: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(check, "connect", no_answer)


def lose_authority(site: Path, patch: pytest.MonkeyPatch) -> None:
    patch.undo()
    (site / "ca.crt").unlink()


def let_certificate_end(_: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(check, "connect", lambda settings: Connection(3.0, 3000.0, 0.0))


def put_clock_forward(_: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(check, "connect", lambda settings: Connection(300.0, 3000.0, 9.0))


def lose_images(site: Path, _: pytest.MonkeyPatch) -> None:
    rewrite(site, "images-of", "nowhere")


def splits_none(site: Path, _: pytest.MonkeyPatch) -> None:
    split_by(site, val=["patient-000"])


def splits_missing(site: Path, _: pytest.MonkeyPatch) -> None:
    split_by(site, train=["patient-999"])


def allow_little(site: Path, _: pytest.MonkeyPatch) -> None:
    rewrite(site, "batch_size = 64", "batch_size = 3 ")


def allow_few_steps(site: Path, _: pytest.MonkeyPatch) -> None:
    rewrite(site, "steps = 20000", "steps = 1    ")


@pytest.mark.parametrize(
    ("spoil", "about", "text"),
    [
        (spoil_key, "key", "chmod 600"),
        (spoil_mask_key, "key", "mask.key: chmod 600"),
        (lose_key, "key", "cannot be read: No such file"),
        (fill_disk, "disk", "0.9 GiB free in"),
        (protect_folder, "disk", "cannot be written to"),
        (fill_memory, "memory", "0.5 GiB free, 1.0 are needed"),
        (lose_coordinator, "coordinator", "cannot reach it"),
        (lose_authority, "coordinator", "ca.crt: No such file"),
        (let_certificate_end, "coordinator", "ends in 3 days"),
        (put_clock_forward, "coordinator", "9 s ahead of the coordinator's"),
        (lose_images, "images", "nowhere"),
        (splits_none, "images", "0 for training, 1 for validation"),
        (splits_missing, "images", "patient-999"),
        (allow_little, "limits", "allows batch_size up to 3; the request asks for 4"),
        (allow_few_steps, "limits", "allows 1 steps in a round"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_to_mend_is_found_and_nothing_else(
    site: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path, pytest.MonkeyPatch], Any],
    about: str,
    text: str,
) -> None:
    spoil(site, monkeypatch)
    _, bad = found(site)
    assert text in bad.pop(about) and (not bad or spoil is lose_authority)


def test_a_training_that_memory_does_not_suffice_for_is_not_tried(site: Path) -> None:
    good, bad = found(site, tiny(data__image_size=256, model__base_filters=64, training__batch_size=8))
    assert set(bad) == {"memory"} and "14.4 are needed" in bad["memory"] and "training" not in good


def test_the_command_says_what_to_mend_and_ends_with_exit_code_1(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = site / "experiment.toml"
    config.write_text(to_toml(tiny(data__source="/where/the/coordinator/has/images")))
    command = ["site", "check", f"--folder={site}", f"--config={config}"]
    fine = CliRunner().invoke(app, command)
    assert fine.exit_code == 0 and "FIX " not in fine.output and "ok    training" in fine.output
    rewrite(site, "base_filters = 64", "base_filters = 2 ")
    monkeypatch.setattr("sys.argv", ["fedpolyp", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 1 and said.err == "fedpolyp: 1 problem to fix before joining\n"
    assert "FIX   limits: this site allows base_filters up to 2" in said.out


def test_the_algorithm_of_the_coordinators_file_is_not_imported_and_its_limit_is_told(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "algorithm_of_a_coordinator.py").write_text("raise SystemExit('it was imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "theirs.toml").write_text(
        "[data]\nimage_size = 32\n[model]\nbase_filters = 4\n[training]\noptimizer = 'adam'\n"
        "[algorithm]\nname = 'algorithm_of_a_coordinator:Own'\n"
    )
    good, bad = found(site, read(tmp_path / "theirs.toml"))
    assert bad.keys() == {"limits"} and "the request asks for algorithm_of_a_coordinator:Own" in bad["limits"]
    assert "training" in good and "algorithm_of_a_coordinator" not in sys.modules


def test_a_site_is_told_what_privacy_an_experiment_would_spend(site: Path) -> None:
    private = {"privacy__mode": "local", "algorithm__name": "fedadam", "model__normalization": "group"}
    _, bad = found(site, tiny(**private))
    assert bad == {
        "privacy": "this site has no declared_units in its site.toml, so it takes part in no run with privacy"
    }
    rewrite(site, "# declared_units =", "declared_units = 9")
    rewrite(site, "# epsilon =", "epsilon = 10.0")
    good, bad = found(site, tiny(**private))
    assert good["privacy"] == "epsilon 0.00 spent, 8.00 after it, at delta 0.001" and not bad
    drawn = {"privacy__batches": "poisson", "privacy__batch": 4}
    good, _ = found(site, tiny(**private, **drawn))
    assert re.match(r"epsilon 0\.00 spent, (7\.99|8\.00) after it, at delta", good["privacy"])
    _, bad = found(site, tiny(**private, **drawn | {"privacy__batch": 10}))
    assert bad["privacy"] == "a batch cannot have more than the 9 units of this hospital; got 10"
    keeper = SiteSettings.load(site / "site.toml").keeper
    for round in (1, 2, 3):
        keeper.ledger.spend(str(round), tiny(**private).privacy.noise(3, 9), "run", round)
    _, bad = found(site, tiny(**private))
    assert (
        "spends at most epsilon 10 at delta 0.001 in all runs together; with this request it would be 12.77"
        in bad["privacy"]
    )


@pytest.mark.parametrize("whose", ["the experiment", "[limits]"])
def test_a_site_that_declares_too_few_units_for_a_delta_is_told(whose: str, site: Path) -> None:
    rewrite(site, "# declared_units =", "declared_units = 2")
    if whose == "[limits]":
        rewrite(site, "# epsilon =", "epsilon = 10.0")
        rewrite(site, "delta = 0.001", "delta = 0.1")
    mode = {"privacy__mode": "local", "algorithm__name": "fedadam", "model__normalization": "group"}
    config = tiny(**mode, privacy__delta=0.1 if whose == "the experiment" else 0.01)
    settings = SiteSettings.load(site / "site.toml")
    store, ids = images_of(settings, 32)
    found = check._privacy(settings, config, [store.records[position] for position in store.positions(ids.train)])
    assert not found.good and found.text == (
        f"delta must be below one over the 10 units of the training images; {whose} has 0.1, and site.toml declares 2 "
        "units"
    )


def test_a_site_is_told_whether_its_noisy_score_would_be_about_right(site: Path) -> None:
    scored = {"privacy__mode": "local", "algorithm__name": "fedadam", "model__normalization": "group"}
    config = tiny(**scored, privacy__score_epsilon=2.0)
    rewrite(site, "# declared_units =", "declared_units = 9")
    rewrite(site, "# epsilon =", "epsilon = 8.2")
    rewrite(site, "test = 0.1", "test = 0.25")
    good, bad = found(site, config)
    assert (
        bad["score"]
        == "site.toml names no declared_test_units (there are 3 with a polyp): the site gives no noisy score"
    )
    assert good["privacy"] == "epsilon 0.00 spent, 8.00 after it, at delta 0.001"
    rewrite(site, "# declared_test_units =", "declared_test_units = 3")
    good, bad = found(site, config)
    assert (
        good["score"]
        == "3 test units have a polyp, 3 are declared: the score keeps 100% of the mean Dice's distance from 0.5"
    )
    assert "spends at most epsilon 8.2" in bad["privacy"] and "it would be 8.57" in bad["privacy"]
    rewrite(site, "declared_test_units = 3", "declared_test_units = 6")
    _, bad = found(site, config)
    assert (
        bad["score"]
        == "3 test units have a polyp, 6 are declared: the score keeps 50% of the mean Dice's distance from 0.5"
    )


def test_a_site_is_told_how_many_images_have_no_known_patient(site: Path) -> None:
    rewrite(site, "# declared_units =", "declared_units = 9")
    private = {"privacy__mode": "local", "algorithm__name": "fedadam", "model__normalization": "group"}
    _, bad = found(site, tiny(**private, privacy__unit="patient"))
    assert bad["patients"].startswith(
        "the experiment protects patients, but the patient of 10 of 10 training images is not known; a CSV"
    )
    rewrite(site, "# group_by =", "group_by = 'patient-[0-9]+' #")
    good, bad = found(site, tiny(**private, privacy__unit="patient"))
    assert good["patients"] == "10 training images of 10 patients" and not bad


def test_a_site_is_told_whether_it_can_take_part_in_secure_sums(site: Path) -> None:
    secured = tiny(privacy__secure_sums=True, training__optimizer_state="reset")
    good, bad = found(site, secured)
    assert not bad and good["mask key"].startswith("public key ")
    (site / "mask.key").unlink()
    _, bad = found(site, secured)
    assert bad.keys() == {"mask key"} and "mask.key: No such file" in bad["mask key"] and "keygen" in bad["mask key"]
