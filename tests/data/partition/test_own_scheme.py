"""A scheme of a user's own, by `module:Class`."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import Field

from fedpolyp.config import load, to_toml
from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.partition.scheme import Rows, Scheme, assign_in_order
from fedpolyp.errors import UsageError
from fedpolyp.section import Section
from tests.image_tables import make_config, make_records
from tests.test_command_line import ROOT

NAME = "tests.data.partition.own_scheme:ByGroup"
RECORDS = make_records([1] * 12 + [3] * 6)


def test_it_partitions_as_it_says_and_is_written_into_the_config_with_its_settings() -> None:
    config = make_config(hospitals__scheme=NAME, hospitals__jitter=0.0, hospitals__count=3)
    partition = partition_images(RECORDS, config)
    group = {record.id: record.group for record in RECORDS}
    sizes = np.bincount([record.group for record in RECORDS])
    means = [np.mean([sizes[group[id]] for id in own.everything]) for own in partition.hospitals.values()]
    assert means == sorted(means) and means[0] < means[-1]
    assert f'scheme = "{NAME}"' in to_toml(config) and "jitter = 0.0" in to_toml(config)
    assert "# by-group: how random the order is" in to_toml(make_config(hospitals__scheme=NAME), explain=True)


@pytest.mark.slow
def test_a_run_has_it_in_its_fingerprint_and_is_read_resumed_and_reported_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedpolyp.report.comparison import _assigned
    from fedpolyp.runs import RunFolder
    from tests.tiny import carry_here, tiny_config, tiny_run

    short = {"federation__rounds": 1, "training__local_epochs": 1, "data__phantom_images": 40}
    marks = []
    for jitter in (0.0, 0.5):
        config = tiny_config(hospitals__scheme=NAME, hospitals__jitter=jitter, **short)
        marks.append(tiny_run(tmp_path / str(jitter), config).fingerprint())
    assert len(set(marks)) == 2
    monkeypatch.setitem(sys.modules, NAME.partition(":")[0], None)  # nobody can import it any more
    run = RunFolder(tmp_path / "0.5")
    carry_here(run, run.config().ready())
    assert [record["round"] for record in run.rounds()] == [0, 1]
    assert _assigned(run.config()) == f"by the scheme {NAME} with jitter 0.5"


class Own(Scheme):
    """What the schemes below have in common."""

    def assign(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """See `Scheme`."""
        return assign_in_order(rng.permutation(len(groups)), groups, hospitals)


class Draws(Own):
    """Takes its randomness from elsewhere."""

    drawn: Iterator[int] = iter(range(100))

    def assign(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """See `Scheme`."""
        return np.roll(super().assign(groups, hospitals, rng), next(self.drawn))


class Sorts(Own):
    """Sorts the table that it was given."""

    def assign(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """See `Scheme`."""
        groups.size.sort()
        return super().assign(groups, hospitals, rng)


class Twins(Own):
    """Two hospitals with one name."""

    def names(self, groups: Groups, count: int) -> tuple[str, ...]:
        """See `Scheme`."""
        return ("oslo", "bergen", "oslo")


class Elsewhere(Own):
    """A hospital that would be kept in another folder."""

    def names(self, groups: Groups, count: int) -> tuple[str, ...]:
        """See `Scheme`."""
        return ("oslo", "bergen", "../tromso")


def answering(change: Callable[[Rows], Any]) -> type[Scheme]:
    class Answers(Own):
        def assign(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
            changed: Rows = change(super().assign(groups, hospitals, rng))
            return changed

    return Answers


Beyond = answering(lambda rows: rows + 1)
Below = answering(lambda rows: rows - 1)
Fewer = answering(lambda rows: rows[:-1])
Floats = answering(lambda rows: rows / 1)
Nothing = answering(lambda rows: None)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Beyond", r"must assign a whole number from 0 to 2 to each of \d+ groups; got int64 \(\d+,\) from 1 to 3"),
        ("Below", r"must assign .*; got int64 \(\d+,\) from -1 to 1"),
        ("Fewer", r"must assign .* to each of 15 groups; got int64 \(14,\)$"),
        ("Floats", r"must assign .*; got float64 \(15,\)$"),
        ("Nothing", r"must assign .*; got object \(\)$"),
        ("Draws", "assigns differently each time: its only source of randomness must be rng"),
        ("Twins", "gives two hospitals the name 'oslo'"),
        ("Elsewhere", r"a hospital's name has .*; got '\.\./tromso'"),
    ],
)
def test_an_answer_that_would_lose_or_move_images_is_refused(name: str, sentence: str) -> None:
    config = make_config(hospitals__scheme=f"{__name__}:{name}", hospitals__count=3)
    with pytest.raises(UsageError, match=rf"^the scheme {__name__}:{name}:? {sentence}"):
        partition_images(RECORDS, config)


def test_the_table_of_groups_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        partition_images(RECORDS, make_config(hospitals__scheme=f"{__name__}:Sorts"))


class Counts(Own):
    """Its setting has the name of another."""

    class Settings(Section):
        """Of `[hospitals]`."""

        count: int = Field(3, description="counts: a name that is taken")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"hospitals.scheme": "nowhere:Own"},
            "the scheme nowhere:Own cannot be loaded: No module named 'nowhere'; put",
        ),
        ({"hospitals.scheme": "fedpolyp.errors:Own"}, "the scheme fedpolyp.errors:Own cannot be loaded: module"),
        ({"hospitals.scheme": "fedpolyp.errors:UsageError"}, "is not a subclass of fedpolyp.data.partition.scheme.Sch"),
        (
            {"hospitals.scheme": "os:system()"},
            "hospitals.scheme must be one of acquisition, .*, or module:Class; got 'o",
        ),
        ({"hospitals.scheme": "x:\x1b[2J"}, r"or module:Class; got 'x:\\x1b\[2J'"),
        (
            {"hospitals.scheme": NAME, "hospitals.jitter": -1.0},
            "^hospitals.jitter must be greater than or equal to 0; ",
        ),
        ({"hospitals.scheme": NAME, "hospitals.alpha": 1.0}, "^hospitals.alpha is not a setting"),
        (
            {"hospitals.scheme": NAME, "hospitals.jitter": {"a": 1}},
            "^hospitals.jitter must be a number, true, false, a",
        ),
        (
            {"hospitals.scheme": f"{__name__}:Counts"},
            "^hospitals.count is a setting of every run: .*Counts.Settings must give its",
        ),
    ],
)
def test_what_is_no_scheme_or_no_setting_of_it_is_refused_in_one_sentence(
    settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        load(overrides=settings)


def test_the_page_about_it_is_followed_to_the_letter(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "extending.md").read_text()
    (code,) = re.findall(r"```python\n(# schemes/.*?)```", page, re.DOTALL)
    file = tmp_path / code.splitlines()[0].removeprefix("# ")
    file.parent.mkdir()
    file.write_text(code)
    export, command = re.findall(r"^```\n(export PYTHONPATH=.*)\nfedpolyp (hospitals .*)\n```$", page, re.MULTILINE)[0]
    few = "--image-size 32 --phantom-images 60 --hospitals 3"
    shell = f"{export}; exec {sys.executable} -P -m fedpolyp {command} {few}"
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(Partition.load(tmp_path / "looked-at" / "partition.json").hospitals) == 3
