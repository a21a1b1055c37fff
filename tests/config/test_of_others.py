"""Reading a config that another party wrote imports nothing that it names; carrying it out does, and checks it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedpolyp import runs
from fedpolyp.algorithms.finding import make
from fedpolyp.config import Config, load, read, to_toml
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.errors import UsageError

MODULE = "algorithm_of_somebody_else"
NAME = f"{MODULE}:Halved"
CODE = """
from pydantic import Field
from fedpolyp.algorithms.base import Algorithm
from fedpolyp.section import Section

class Halved(Algorithm):
    class Settings(Section):
        share: float = Field(0.5, ge=0, le=1, description="how much of it")
        layers: tuple[str, ...] = Field(("first", "last"), description="which")
        after: int | None = Field(None, description="when")

    @classmethod
    def refuse(cls, config, settings):
        return "halved needs two hospitals" if config.hospitals.count < 2 else ""
"""


@pytest.fixture(autouse=True)
def _importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop(MODULE, None)


def written(folder: Path, own: str = "") -> Path:
    (folder / "config.toml").write_text(f'[algorithm]\nname = "{NAME}"\n{own}')
    return folder / "config.toml"


def test_a_config_of_somebody_else_is_read_shown_and_compared_without_its_algorithm(tmp_path: Path) -> None:
    config = read(written(tmp_path, 'share = 0.25\nlayers = ["one"]\n'))
    again = Config.model_validate_json(config.model_dump_json())
    (tmp_path / "again.toml").write_text(to_toml(config))
    assert config == again == read(tmp_path / "again.toml")
    assert (config.label, config.algorithm.model_extra) == ("halved", {"share": 0.25, "layers": ("one",)})
    assert MODULE not in sys.modules


def test_a_run_folder_of_somebody_else_is_read_without_its_algorithm(tmp_path: Path) -> None:
    made = runs.create(tmp_path / "run", load(), Partition(("b",), {"hospital-1": HospitalImages(("a",), (), ())}))
    made.config_file.write_text(written(tmp_path).read_text())
    assert made.config().algorithm.name == NAME and made.fingerprint()
    assert MODULE not in sys.modules


def test_a_scheme_of_somebody_else_is_not_imported_to_read_show_or_resume_a_run(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'[hospitals]\nscheme = "{NAME}"\nlayers = ["one"]\n')
    config = read(tmp_path / "config.toml")
    (tmp_path / "again.toml").write_text(to_toml(config.ready()))
    assert Config.model_validate_json(config.model_dump_json()) == config == read(tmp_path / "again.toml")
    assert (config.hospitals.own, config.ready()) == ({"layers": ("one",)}, config)
    assert MODULE not in sys.modules


def test_an_experiment_of_ones_own_is_checked_by_its_algorithm_and_written_out(tmp_path: Path) -> None:
    config = load(written(tmp_path))
    assert config.algorithm.settings.model_dump() == config.algorithm.model_extra
    assert {"share = 0.5", 'layers = ["first", "last"]', "# after ="} <= set(to_toml(config).splitlines())
    assert "# how much of it" in to_toml(config, explain=True)
    (tmp_path / "again.toml").write_text(to_toml(config))
    assert load(tmp_path / "again.toml") == config == config.ready()
    assert Config.model_validate_json(config.model_dump_json()).ready() == config
    assert make(config).settings.share == 0.5


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("share = 2\n", "^algorithm.share must be less than or equal to 1; got 2$"),
        ("portion = 0.1\n", r"^algorithm.portion is not a setting"),
        ("[hospitals]\ncount = 1\n", "^halved needs two hospitals$"),
    ],
)
def test_what_the_algorithm_does_not_take_is_refused_when_it_is_to_be_carried_out(
    tmp_path: Path, own: str, said: str
) -> None:
    config = read(written(tmp_path, own))
    assert MODULE not in sys.modules
    for refused in (config.ready, lambda: load(tmp_path / "config.toml")):
        with pytest.raises(UsageError, match=said):
            refused()


@pytest.mark.parametrize("name", ["", "../x:Y", "a b", "x:", ":Y", "x:y:Z", "\x1b[2J", "x" * 101, "os:system()"])
def test_a_name_that_none_can_have_is_refused_at_once(name: str) -> None:
    with pytest.raises(ValueError, match="algorithm must be one of pooled, local, fedavg") as refused:
        Config.model_validate({"algorithm": {"name": name}})
    assert "\x1b" not in str(refused.value.errors()[0]["msg"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("own", [{"x": {"y": 1}}, {"x": [[1]]}, {"x y": 1}, {"x": "\0"}, {"x": float("nan")}])
def test_a_setting_of_an_algorithm_that_no_file_could_hold_is_refused(own: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be a number, true, false, a text, or a list of them"):
        Config.model_validate({"algorithm": {"name": NAME, **own}})
    assert MODULE not in sys.modules


def test_settings_of_a_built_in_algorithm_are_checked_when_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[algorithm]\nname = "fedprox"\nmu = -1\n')
    with pytest.raises(UsageError, match=r"algorithm\.mu must be greater than or equal to 0; got -1"):
        read(tmp_path / "config.toml")
