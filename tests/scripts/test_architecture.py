"""The picture of the packages, and the order that they keep."""

import re
from pathlib import Path

from scripts.architecture import LAYERS, PICTURE, ROOT, draw, imports, needed, upward

# What goes up, and why. A new one needs a reason here, or another place.
KNOWN = {
    ("aggregation", "privacy"): "a masked sum is opened with what has masked it",
    ("hospital", "rounds"): "a hospital checks what it masks as the coordinator would",
    ("config", "algorithms"): "an algorithm's settings are part of the config",
    ("config", "privacy"): "epsilon is checked against what is possible",
    ("data", "algorithms"): "a partition names the hospital of pooled training",
    ("exchange", "hospital"): "without messages, the exchange is a call",
    ("experiment", "simulation"): "a run is started by what it is part of",
    ("experiment", "report"): "a run ends with its pictures",
    ("experiment", "sites"): "a run's progress is written as a site's is",
    ("model", "runs"): "initial weights may be those of a run",
    ("privacy", "rounds"): "an attack repeats the last round",
}


def test_packages_import_from_below_but_for_what_has_a_reason() -> None:
    found = upward(imports())
    assert set(found) == set(KNOWN), {edge: files for edge, files in found.items() if edge not in KNOWN}


def test_the_picture_is_of_the_packages_and_imports_that_there_are() -> None:
    edges = imports()
    assert {name for edge in edges for name in edge} == {name for _, names in LAYERS for name in names}
    assert PICTURE.read_text(encoding="utf-8") == draw(edges), "run python -m scripts.architecture"


def test_what_only_a_type_checker_reads_is_no_import(tmp_path: Path) -> None:
    for package in ("fedpolyp/one", "fedpolyp/two", "fedpolyp/three", "clients", "server"):
        (tmp_path / package).mkdir(parents=True)
    lazy = "def f():\n    from fedpolyp.three import thing\n"
    (tmp_path / "fedpolyp/one/a.py").write_text(
        f"if TYPE_CHECKING:\n    import fedpolyp.two\n{lazy}import fedpolyp.names\n"
    )
    assert imports(tmp_path) == {("one", "three"): ["fedpolyp/one/a.py"]}


def test_an_arrow_that_others_make_superfluous_is_left_out() -> None:
    assert needed({("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")}) == {("a", "b"), ("b", "c"), ("a", "d")}


def test_every_file_that_the_page_names_is_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_]+/)*[a-z_]+(?:\.py|/))`", page))
    assert len(named) > 30
    beside = {"judging.py": "rounds", "masks.py": "data"}  # named after a file of the same folder
    for name in named:
        places = [ROOT / name, ROOT / "fedpolyp" / name, ROOT / "fedpolyp" / beside.get(name, "-") / name]
        assert any(place.exists() for place in places), name
