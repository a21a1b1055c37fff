"""A config is what the defaults, a preset, a file and single overrides make of it; its file says all of it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpolyp.algorithms.finding import BUILT_IN, settings_of
from fedpolyp.config import Config, changed_toml, fingerprint, load, to_toml
from fedpolyp.data.partition.finding import SCHEMES
from fedpolyp.errors import UsageError
from tests.config.every_setting import SETTINGS, another, leaves, read_back, with_it

printable = st.text(st.characters(codec="utf-8", exclude_characters="\0\x7f"), max_size=20)


def no_algorithm(label: str) -> bool:
    return label not in BUILT_IN


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(0, 2**31 - 1),
            "data.source": printable,
            "data.image_size": st.integers(2, 64).map(lambda sixteenths: 16 * sixteenths),
            "data.lists": st.none() | printable,
            "hospitals.scheme": st.sampled_from(SCHEMES),
            "model.dropout": st.tuples(*[st.floats(0, 1, exclude_max=True)] * 2),
            "training.learning_rate": st.floats(0, 1, exclude_min=True),
            "training.augment": st.booleans(),
            "arm_label": st.none() | st.from_regex("[a-z0-9][a-z0-9._-]{0,39}", fullmatch=True).filter(no_algorithm),
            "federation.round_timeout": st.floats(0, exclude_min=True, allow_infinity=False),
            "runtime.gpus_per_client": st.none() | st.floats(0, 1),
        },
    ),
    st.booleans(),
)
def test_toml_reads_back_to_an_equal_config(
    tmp_path_factory: pytest.TempPathFactory, overrides: dict[str, Any], explain: bool
) -> None:
    config = load(overrides=overrides)
    assert read_back(config, tmp_path_factory.mktemp("toml"), explain) == config


def test_a_character_that_json_writes_and_toml_forbids_reads_back(tmp_path: Path) -> None:
    config = load(overrides={"data.source": "a\x7fb"})
    assert read_back(config, tmp_path) == config


@pytest.mark.parametrize("dotted", SETTINGS)
def test_every_setting_is_set_by_its_dotted_name_and_survives_toml(tmp_path: Path, dotted: str) -> None:
    config = load(overrides={dotted: another(dotted), **with_it(dotted)})
    changed = [name for name, (value, _) in leaves(config).items() if value != leaves(Config())[name][0]]
    assert sorted(changed) == sorted([dotted, *with_it(dotted)])
    assert read_back(config, tmp_path) == config


def test_overrides_beat_the_file_which_beats_the_preset_which_beats_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[model]\nbase_filters = 4\n[training]\nloss = 'bce+dice'\nbatch_size = 2\n")
    config = load(file, "seed", {"training.batch_size": 3})
    assert config.training.batch_size == 3
    assert (config.model.base_filters, config.training.loss) == (4, "bce+dice")
    assert (config.data.image_size, config.model.normalization) == (256, "none")
    assert config.training.local_epochs == Config().training.local_epochs


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "absent.toml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError) as refusal:
            load(path)
        assert str(refusal.value) == f"cannot read the config file {path}: {why}"


@pytest.mark.parametrize("content", [b"seed = ", b"seed = 1\nseed = 2", b"\xff"])
def test_a_file_that_is_not_toml_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError) as refusal:
        load(file)
    assert str(refusal.value).startswith(f"{file} is not valid TOML: ")


def test_a_file_with_a_value_where_a_section_belongs_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "flat.toml"
    file.write_text("data = 3\n")
    with pytest.raises(UsageError, match="^data must be a valid dictionary .*; got 3$"):
        load(file)
    with pytest.raises(UsageError, match=r"^'data.source' is not a setting: 'data' is a value, not a table$"):
        load(file, overrides={"data.source": "elsewhere"})


def fingerprint_of(config: Config, folder: Path) -> str:
    (folder / "config.toml").write_text(to_toml(config, explain=True))
    return fingerprint(folder / "config.toml")


@pytest.mark.parametrize("dotted", SETTINGS)
def test_fingerprint_changes_with_every_setting_but_those_that_decide_no_bit(tmp_path: Path, dotted: str) -> None:
    before = load(overrides=with_it(dotted))
    after = load(overrides={dotted: another(dotted), **with_it(dotted)})
    changed = fingerprint_of(after, tmp_path) != fingerprint_of(before, tmp_path)
    assert changed == (
        not dotted.startswith("runtime.") and dotted not in ("data.source", "hospitals.partition", "arm_label")
    )


def test_the_number_of_rounds_decides_no_earlier_rounds_bits_where_the_learning_rate_is_constant(
    tmp_path: Path,
) -> None:
    constant = {"training.schedule": "constant"}
    more = load(overrides=constant | {"federation.rounds": 240})
    assert fingerprint_of(more, tmp_path) == fingerprint_of(load(overrides=constant), tmp_path)
    assert fingerprint_of(load(overrides={"federation.rounds": 240}), tmp_path) != fingerprint_of(Config(), tmp_path)


# What an older version wrote: it knew fewer settings, and may have had other defaults.
OLDER = """seed = 3
[data]
source = "/somewhere"
[training]
batch_size = 5
# precision =
[algorithm]
name = "fedprox"
mu = 0.02
[runtime]
actors = 2
"""


KNOWN = "a6787c7ac539c46453ae16d798bc3c9b1f1fa5850ae5910c131281db20566dac"


def test_a_fingerprint_is_of_what_the_file_says_whatever_a_later_version_makes_of_it(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(OLDER)
    # Written down: a version that gives another one calls every older checkpoint that of another config.
    assert fingerprint(file) == KNOWN
    file.write_text(OLDER + "keep_checkpoints = 9\n")
    assert fingerprint(file) == KNOWN
    file.write_text(OLDER.replace("batch_size = 5", "batch_size = 8"))  # today's default, and yet what it says
    assert fingerprint(file) not in (
        KNOWN,
        fingerprint_of(Config(), tmp_path),
    )


def test_one_setting_is_changed_in_a_file_and_nothing_else(tmp_path: Path) -> None:
    text = to_toml(load(overrides={"data.source": "/old/place", "seed": 3}), explain=True)
    changed = changed_toml(text, {"data.source": '/new "place"', "federation.rounds": 200})
    (tmp_path / "x.toml").write_text(changed)
    config = load(tmp_path / "x.toml")
    assert (config.data.source, config.federation.rounds, config.seed) == ('/new "place"', 200, 3)
    same = [(a, b) for a, b in zip(text.splitlines(), changed.splitlines(), strict=True) if a != b]
    assert len(same) == 2
    with pytest.raises(UsageError, match="not in the form that fedpolyp writes"):
        changed_toml("federation = {rounds = 3}\n", {"federation.rounds": 4})


def test_every_setting_is_documented_and_explained_in_toml() -> None:
    told = to_toml(Config(), explain=True)
    for name, (value, field) in leaves(Config()).items():
        assert field.description, name
        lines = [line for line in told.splitlines() if line.endswith(f"# {field.description}")]
        assert len(lines) == 1, name
        assert lines[0].removeprefix("# ").startswith(f"{name.split('.')[-1]} =")
        assert (value is None) == lines[0].startswith("# ")


def test_an_empty_table_is_nothing_more_than_its_name(tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text("[data]\n")
    assert load(file, "paper") == load(None, "paper")
    file.write_text("[dta]\n")
    with pytest.raises(UsageError, match="^dta is not a setting"):
        load(file)


OWN = [(name, own) for name in BUILT_IN for own in settings_of(name).model_fields]


@pytest.mark.parametrize(("algorithm", "own"), OWN)
def test_every_algorithms_own_settings_survive_toml_and_decide_the_fingerprint(
    tmp_path: Path, algorithm: str, own: str
) -> None:
    chosen = {"algorithm.name": algorithm}
    default = getattr(load(overrides=chosen).algorithm, own)
    other = default + 1 if type(default) is int else default / 2 or 0.5
    config = load(overrides=chosen | {f"algorithm.{own}": other})
    assert getattr(config.algorithm.settings, own) == getattr(config.algorithm, own) == other
    assert read_back(config, tmp_path, explain=True) == config
    assert fingerprint_of(config, tmp_path) != fingerprint_of(load(overrides=chosen), tmp_path)


@pytest.mark.parametrize("algorithm", BUILT_IN)
def test_toml_explains_an_algorithms_own_settings_beside_its_name(algorithm: str) -> None:
    told = to_toml(load(overrides={"algorithm.name": algorithm}), explain=True)
    table = told[told.index("\n[algorithm]\n") :].split("\n\n")[0].strip().splitlines()[1:]
    assert table[0].startswith(f'name = "{algorithm}"')
    fields = settings_of(algorithm).model_fields
    assert [line.split(" = ")[0] for line in table[1:]] == list(fields)
    assert all(line.endswith(f"# {field.description}") for line, field in zip(table[1:], fields.values(), strict=True))
