"""A run folder that somebody else wrote: its names and texts are text on the page, and nothing else."""

import csv
import json
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fedpolyp.cells import unguarded
from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.data.source import open_source
from fedpolyp.data.store import Store, write_store
from fedpolyp.errors import UsageError
from fedpolyp.experiment.comparison import runs_in
from fedpolyp.report.comparison import write_report
from fedpolyp.runs import RunFolder
from tests.fake_comparison import fake_config, write_comparison, write_run

BREAKING_OUT = "\"></title></svg></script><img src=x onerror=alert(1)><!-- ' "
HOSPITALS = (
    BREAKING_OUT,
    "../../outside",
    "=HYPERLINK(0)",
    "$\\frac$ {{ 7*7 }} \x1b[2J\u202e",
    "a/b",
    "a b",
    "long" * 1000,
)
ALLOWED_TAGS = set(
    "html head meta link title style body main header p h1 h2 h3 aside ul li nav a section div table caption thead "
    "tbody tr th td small span figure figcaption svg g path image defs clippath rect use text b em fieldset legend "
    "label input pre code dl dt dd img details summary footer".split()
)


class Tags(HTMLParser):
    """Every tag and attribute of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]
        self.text += " ".join(value or "" for _, value in attributes)

    def handle_data(self, data: str) -> None:
        self.text += data


def unchecked(run: RunFolder) -> Partition:
    """The run's partition as it would be read without looking at its names."""
    plain = json.loads(run.partition_file.read_text())
    sets: dict[str, dict[str, Any]] = {
        name: {of: tuple(ids) for of, ids in own.items()} for name, own in plain["hospitals"].items()
    }
    return Partition(tuple(plain["heldout"]), {name: HospitalImages(**own) for name, own in sets.items()})


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report's folder, three folders below one that holds nothing else."""
    top = tmp_path_factory.mktemp("hostile")
    folder = top / "a" / "b" / "report"
    config = fake_config("fedavg", 0, hospitals=len(HOSPITALS))
    known = open_source(config.data, config.data_seed)
    records = [replace(record, id=f"=cmd <img src=x onerror=alert(2)> {record.id}") for record in known.records]
    store: Store = write_store(top / "store", known.images, known.masks, records, known.report)
    made = partition_images(store.records, config)
    partition = Partition(made.heldout, dict(zip(HOSPITALS, made.hospitals.values(), strict=True)))
    with pytest.MonkeyPatch.context() as patch:
        # Names are refused when they are read; here they get through.
        patch.setattr(RunFolder, "partition", unchecked)
        patch.setattr("fedpolyp.runs.folder.checked", lambda record, where: record)
        for arm in ("local", "fedavg"):
            settings = fake_config(arm, 0, hospitals=len(HOSPITALS))
            data = settings.data.model_copy(update={"source": f"/somewhere/{BREAKING_OUT}"})
            run = write_run(folder / arm / "0", settings.model_copy(update={"data": data}), store, partition)
            said = json.loads(run.environment_file.read_text())
            said |= dict.fromkeys(("started", "processor", "cores", "platform", "python"), BREAKING_OUT)
            said |= {"packages": {BREAKING_OUT: BREAKING_OUT}, "command": [BREAKING_OUT, 3]}
            run.environment_file.write_text(json.dumps(said))
            lines = [
                record | {"refused": [{"hospital": BREAKING_OUT, "reason": BREAKING_OUT}]} for record in run.rounds()
            ]
            run.rounds_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        write_report(folder, runs_in(folder), f"fedpolyp compare {BREAKING_OUT}")
    return top


def test_no_text_of_a_run_folder_becomes_a_part_of_the_page(hostile: Path) -> None:
    page = Tags((hostile / "a" / "b" / "report" / "report.html").read_text(encoding="utf-8"))
    assert page.tags <= ALLOWED_TAGS
    assert not [name for name in page.attributes if name.startswith("on")]
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "alert(1)" in page.text and "alert(2)" in page.text  # it is there, as text
    assert "{{ 7*7 }}" in page.text and "\x1b" not in page.text and "\u202e" not in page.text


def test_no_name_leads_a_file_out_of_the_reports_folder(hostile: Path) -> None:
    folder = hostile / "a" / "b" / "report"
    assert {path.name for path in hostile.iterdir()} == {"a", "store"}
    assert {path.name for path in folder.parent.iterdir()} == {"report"}
    assert {path.name for path in folder.iterdir()} == {"local", "fedavg", "figures", "tables", "report.html"}
    panels = [path.name for path in (folder / "figures").iterdir() if path.name.startswith("validation-")]
    assert len(panels) == len(HOSPITALS) and all(len(name) < 80 for name in panels)


def test_no_cell_is_a_formula_and_names_are_read_back(hostile: Path) -> None:
    folder = hostile / "a" / "b" / "report"
    tables = [*(folder / "tables").glob("*.csv"), *folder.glob("*/0/images.csv")]
    found = set()
    for table in tables:
        with table.open(newline="", encoding="utf-8") as stream:
            for row in csv.reader(stream):
                for cell in row:
                    found.add(unguarded(cell))
                    if cell.startswith(("=", "+", "-", "@", "\t", "\r")):
                        float(cell)  # a number, and so left as it is
    assert set(HOSPITALS) <= found
    assert any(cell.startswith("=cmd <img") for cell in found)


def test_a_link_in_the_folder_leads_nothing_out_of_it(tmp_path: Path) -> None:
    (run,) = write_comparison(tmp_path / "report", ("fedavg",))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "report" / "figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="figures is a link: a report is written into its own folder only"):
        write_report(tmp_path / "report", [run])
    assert not [*(tmp_path / "elsewhere").iterdir()]


def test_the_algorithm_that_a_run_names_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = write_comparison(tmp_path / "report", ("pooled", "near:fedprox"))
    (tmp_path / "algorithm_of_a_stranger.py").write_text("raise SystemExit('it was imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = runs[1].config_file
    text = config.read_text().replace('name = "fedprox"', 'name = "algorithm_of_a_stranger:Own"')
    lines = (f"own = {json.dumps(BREAKING_OUT)}" if line.startswith("mu = ") else line for line in text.splitlines())
    config.write_text("\n".join(lines) + "\n")
    page = Tags(write_report(tmp_path / "report", runs).read_text(encoding="utf-8"))
    assert "near is own with own" in " ".join(page.text.split()) and page.tags <= ALLOWED_TAGS
    assert "algorithm_of_a_stranger" not in sys.modules
