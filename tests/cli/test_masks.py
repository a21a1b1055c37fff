"""Every command that reads a folder stops where its masks look wrong, and all take the same words for what is meant."""

import json
import os
from pathlib import Path

import pytest

from fedpolyp.config import load, to_toml
from fedpolyp.data.partition import assign
from fedpolyp.errors import UsageError
from fedpolyp.sites import check
from fedpolyp.sites.images import images_of
from fedpolyp.sites.settings import SiteSettings
from tests.command import exit_code
from tests.picture_folders import encoded, picture, shape, write_pair
from tests.real_sites import make_sites

COUNT = 24
SMALL = ("--image-size", "32")


def write_masks(folder: Path, inverted: bool) -> Path:
    for number in range(COUNT):
        mask = 1 - shape(number) if inverted else shape(number)
        write_pair(folder, f"{number:02d}", encoded(picture(number)), encoded(255 * mask))
    return folder


@pytest.fixture
def inverted(tmp_path: Path) -> Path:
    return write_masks(tmp_path / "clinic", inverted=True)


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setenv("COLUMNS", "200")
    return exit_code(monkeypatch, *arguments)


@pytest.mark.parametrize("command", ["data ingest", "data show", "simulate", "compare"])
def test_every_command_stops_before_it_makes_anything(
    command: str, inverted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = [str(inverted)] if command == "data ingest" else ["--data", str(inverted)]
    out = [] if command == "data ingest" else ["--out", "made.png"]
    assert called(monkeypatch, *command.split(), *folder, *SMALL, *out) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"fedpolyp: the masks in {inverted} look wrong: in 24 of 24 more than half of the image is")
    assert "--masks as-they-are" in said and said.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["clinic"]


def test_ingest_and_show_take_the_options_and_say_the_rule(
    inverted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, "data", "ingest", str(inverted), *SMALL, "--masks", "as-they-are") == 0
    told = capsys.readouterr().out
    assert "24 pairs ingested at 32x32 pixels, 0 left out" in told
    assert "masks by grey level: background 0, lesion 255\n" in told
    table = Path(told.split("store: ")[1].split(" (")[0].strip()) / "table.json"
    assert json.loads(table.read_text())["notes"] == ["masks by grey level: background 0, lesion 255"]

    options = ["--lesion-values", "0", "--hospitals", "2", "--out", str(tmp_path / "s.png")]
    assert called(monkeypatch, "data", "show", "--data", str(inverted), *SMALL, *options) == 0
    told = capsys.readouterr().out
    assert "masks by grey level: background 255, lesion 0 (as given)\n" in told


def test_ingest_show_and_simulate_print_what_is_odd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_masks(tmp_path / "clinic", inverted=False)
    write_pair(folder, "02", encoded(picture(2)), encoded(255 - 255 * shape(2)))

    def stop(*_: object) -> None:
        raise UsageError("enough")

    monkeypatch.setattr(assign, "partition_images", stop)  # before Ray starts
    monkeypatch.chdir(tmp_path)
    show = ["data", "show", "--data", str(folder), "--hospitals", "2", "--out", "s.png"]
    for command in (["data", "ingest", str(folder)], show, ["simulate", "--data", str(folder)]):
        called(monkeypatch, *command, *SMALL)
        told = capfd.readouterr().out
        assert "1 of 24 masks are more than half lesion (first: masks/02.png)\n" in told
        assert "\n1 of 24 masks are lesion on more than half of their border, as inverted masks are" in told


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--masks", "fine", "data.masks must be 'checked' or 'as-they-are'; got 'fine'"),
        ("--lesion-values", "one", "lesion_values must be whole numbers from 0 to 65535, as in 1,2, or colours"),
        ("--lesion-values", "1,#ff0000", "lesion_values must be whole numbers from 0 to 65535, as in 1,2, or colours"),
        ("--lesion-values", "70000", "lesion_values must be whole numbers from 0 to 65535, as in 1,2, or colours"),
        ("--lesion-values", "9", "has a value of 9, named as lesion; there are 0, 255"),
    ],
)
def test_a_mistake_in_the_options_is_answered_in_one_line(
    option: str,
    value: str,
    said: str,
    inverted: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert called(monkeypatch, "data", "ingest", str(inverted), *SMALL, option, value) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_folder_whose_name_is_no_utf_8_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_masks(tmp_path / os.fsdecode(b"caf\xe9"), inverted=False)
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, "simulate", "--data", str(folder), *SMALL) == 2
    assert "data.source must be a path in UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert called(monkeypatch, "data", "ingest", str(folder), *SMALL) == 0


@pytest.mark.parametrize("written", ['"1, 2"', "[1, 2]", '["1", "2"]'])
def test_a_config_may_name_values_as_a_text_or_a_list(written: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[data]\nmasks = "as-they-are"\nlesion_values = {written}\n')
    config = load(file)
    assert (config.data.masks, config.data.lesion_values) == ("as-they-are", "1,2")
    file.write_text(to_toml(config))
    assert load(file) == config


@pytest.fixture
def site(inverted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site's folder, with the settings as 'site init' wrote them."""

    def connect(settings: SiteSettings) -> None:
        raise ConnectionError("nobody is there")

    monkeypatch.setattr(check, "connect", connect)
    folder = make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"
    file = folder / "site.toml"
    lines = [f'data = "{inverted}"' if line.startswith("data = ") else line for line in file.read_text().splitlines()]
    file.write_text("\n".join(lines) + "\n")
    return folder


def findings(site: Path) -> dict[str, check.Finding]:
    config = load(overrides={"data.image_size": 32, "model.base_filters": 4})
    return {one.about: one for one in check.checks(SiteSettings.load(site / "site.toml"), config)}


def test_site_check_stops_and_site_toml_says_what_is_meant(site: Path) -> None:
    images = findings(site)["images"]
    assert not images.good and "look wrong: in 24 of 24" in images.text and "in site.toml" in images.text

    file = site / "site.toml"
    assert 'masks = "checked"' in file.read_text() and "# lesion_values =" in file.read_text()
    written = file.read_text()
    file.write_text(written.replace('masks = "checked"', 'masks = "as-they-are"'))
    store, _ = images_of(SiteSettings.load(file), 32)
    assert store.masks.mean() > 0.8

    file.write_text(written.replace("# lesion_values =", 'lesion_values = "0"'))
    store, _ = images_of(SiteSettings.load(file), 32)
    assert store.masks.mean() < 0.2
    assert store.report.notes == ("masks by grey level: background 255, lesion 0 (as given)",)


def test_a_coordinator_s_config_says_what_is_meant_by_its_held_out_masks(
    inverted: Path, site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text("[data]\nimage_size = 32\n")
    command = ["site", "run", "--folder", str(site.parent / "coordinator"), "--print-command"]
    options = ["--held-out-data", str(inverted), "--config", str(file)]
    assert called(monkeypatch, *command, *options) == 2
    assert "look wrong: in 24 of 24" in capsys.readouterr().err
    file.write_text("[data]\nimage_size = 32\nlesion_values = [0]\n")
    assert called(monkeypatch, *command, *options) == 0
