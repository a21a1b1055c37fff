"""A config is what the defaults, a preset, a file and single overrides make of it, or one clear sentence."""

import math
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpolyp.config import PRESETS, Config, Section, changed_toml, fingerprint, load, to_toml
from fedpolyp.errors import UsageError


def leaves(config: Config) -> dict[str, tuple[Any, Any]]:
    """Value and field of every setting, by dotted name."""
    found: dict[str, tuple[Any, Any]] = {}
    for name, field in Config.model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Section):
            found |= {f"{name}.{own}": (getattr(value, own), f) for own, f in type(value).model_fields.items()}
        else:
            found[name] = (value, field)
    return found


SETTINGS = sorted(leaves(Config()))


def another(dotted: str) -> Any:
    """A valid value that is not the default."""
    value, field = leaves(Config())[dotted]
    match value:
        case bool():
            return not value
        case int():
            return value + 16  # keeps the image size a multiple of 16
        case float():
            return value / 2 or 0.5
        case tuple():
            return (0.1, 0.2)
        case None:
            return {
                "data.lists": "lists",
                "data.lesion_values": "1,2",
                "data.seed": 7,
                "model.encoder_sha256": "0" * 64,
                "training.precision": "mixed_bfloat16",
                "runtime.actors": 3,
                "runtime.ray_address": "auto",
            }.get(dotted, 0.5)
    return next((option for option in get_args(field.annotation) if option != value), "elsewhere")


def read_back(config: Config, folder: Path, explain: bool = False) -> Config:
    file = folder / "config.toml"
    file.write_text(to_toml(config, explain), encoding="utf-8")
    return load(file)


printable = st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=20)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(0, 2**31 - 1),
            "data.source": printable,
            "data.image_size": st.integers(2, 64).map(lambda sixteenths: 16 * sixteenths),
            "data.lists": st.none() | printable,
            "hospitals.scheme": st.sampled_from(["iid", "lesion-size"]),
            "model.dropout": st.tuples(*[st.floats(0, 1, exclude_max=True)] * 2),
            "training.learning_rate": st.floats(0, 1, exclude_min=True),
            "training.augment": st.booleans(),
            "federation.proximal_mu": st.floats(0, allow_infinity=False),
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
    config = load(overrides={dotted: another(dotted)})
    changed = [name for name, (value, _) in leaves(config).items() if value != leaves(Config())[name][0]]
    assert changed == [dotted]
    assert read_back(config, tmp_path) == config


def test_overrides_beat_the_file_which_beats_the_preset_which_beats_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[model]\nbase_filters = 4\n[training]\nloss = 'bce+dice'\nbatch_size = 2\n")
    config = load(file, "seed", {"training.batch_size": 3})
    assert config.training.batch_size == 3
    assert (config.model.base_filters, config.training.loss) == (4, "bce+dice")
    assert (config.data.image_size, config.model.normalization) == (256, "none")
    assert config.training.local_epochs == Config().training.local_epochs


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_what_it_names_and_nothing_else(preset: str) -> None:
    told = {name: value for name, (value, _) in leaves(load(preset=preset)).items()}
    default = {name: value for name, (value, _) in leaves(Config()).items()}
    assert told == default | PRESETS[preset]


def test_nothing_given_gives_the_defaults() -> None:
    assert load() == load(overrides={}) == Config()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"data.nope": 1}, "data.nope is not a setting ('fedpolyp config' lists them)"),
        ({"nope.x": 1}, "nope is not a setting ('fedpolyp config' lists them)"),
        ({"training.batch_size": 0}, "training.batch_size must be greater than or equal to 1; got 0"),
        ({"data.image_size": 100}, "data.image_size must be a multiple of 16; got 100"),
        ({"data.held_out": 0.9}, "data.held_out must be less than 0.9; got 0.9"),
        ({"training.learning_rate": math.nan}, "training.learning_rate must be a finite number; got nan"),
        ({"seed": "1"}, "seed must be a valid integer; got '1'"),
        ({"seed": True}, "seed must be a valid integer; got True"),
        ({"training.augment": 1}, "training.augment must be a valid boolean; got 1"),
        ({"training.loss": "dice"}, "training.loss must be 'bce' or 'bce+dice'; got 'dice'"),
        ({"model.dropout": (0.1, 1.0)}, "model.dropout rates must be in [0, 1); got [0.1, 1.0]"),
        ({"model.dropout": (0.1,)}, "model.dropout.1 Field required; got (0.1,)"),
        (
            {"hospitals.val": 0.45, "hospitals.test": 0.45},
            "hospitals.val and hospitals.test together leave less than a tenth for training",
        ),
        (
            {"data.nope": 1, "seed": -1},
            "seed must be greater than or equal to 0; got -1; "
            "data.nope is not a setting ('fedpolyp config' lists them)",
        ),
        ({"data": 3}, "data must be a valid dictionary or instance of DataConfig; got 3"),
        ({"seed": 3, "seed.x": 1}, "'seed.x' is not a setting: 'seed' is a value, not a table"),
    ],
)
def test_a_refusal_says_what_was_received_and_what_is_allowed(overrides: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        load(overrides=overrides)
    assert str(refusal.value) == sentence


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="^preset must be one of paper, seed, pretrained; got 'nope'$"):
        load(preset="nope")


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
    changed = fingerprint_of(load(overrides={dotted: another(dotted)}), tmp_path) != fingerprint_of(Config(), tmp_path)
    assert changed == (not dotted.startswith("runtime.") and dotted != "data.source")


def test_the_number_of_rounds_decides_no_earlier_rounds_bits_where_the_learning_rate_is_constant(
    tmp_path: Path,
) -> None:
    constant = {"training.schedule": "constant"}
    more = load(overrides=constant | {"federation.rounds": 240})
    assert fingerprint_of(more, tmp_path) == fingerprint_of(load(overrides=constant), tmp_path)
    assert fingerprint_of(load(overrides={"federation.rounds": 240}), tmp_path) != fingerprint_of(Config(), tmp_path)


# What an older version wrote: it knew fewer settings, and may have had other defaults.
OLDER = """seed = 3
arm = "federated"
[data]
source = "/somewhere"
[training]
batch_size = 5
# precision =
[runtime]
actors = 2
"""


KNOWN = "2935fed95e2b66caac15fdbf2c3f52f4d658b8905a2bbdda657a38d34d123597"


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
    with pytest.raises(UsageError, match="not as it was written"):
        changed_toml("federation = {rounds = 3}\n", {"federation.rounds": 4})


def test_every_setting_is_documented_and_explained_in_toml() -> None:
    told = to_toml(Config(), explain=True)
    for name, (value, field) in leaves(Config()).items():
        assert field.description, name
        lines = [line for line in told.splitlines() if line.endswith(f"# {field.description}")]
        assert len(lines) == 1, name
        assert lines[0].removeprefix("# ").startswith(f"{name.split('.')[-1]} =")
        assert (value is None) == lines[0].startswith("# ")


def test_a_config_is_never_changed() -> None:
    config = Config()
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        config.training.batch_size = 1  # type: ignore[misc]


def test_an_empty_table_is_nothing_more_than_its_name(tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text("[data]\n")
    assert load(file, "paper") == load(None, "paper")
    file.write_text("[dta]\n")
    with pytest.raises(UsageError, match="^dta is not a setting"):
        load(file)


@pytest.mark.parametrize("name", ["data.source", "data.lists", "runtime.ray_address"])
@pytest.mark.parametrize("bad", ["\0x", "pic\0tures", "\udcff"])
def test_a_path_that_cannot_be_is_one_sentence(name: str, bad: str) -> None:
    with pytest.raises(UsageError, match=f"^{name} must be a path in UTF-8 without a NUL character; got "):
        load(overrides={name: bad})


def test_weights_in_a_file_that_cannot_be_are_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"model.encoder_weights must be a path in UTF-8 without a NUL"):
        load(overrides={"model.encoder": "mobilenet-v2", "model.encoder_weights": "a\0b.h5"})
