"""The config as TOML: read, merged from files, presets and single settings, written; and its fingerprint."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedpolyp.config.config import Config
from fedpolyp.config.presets import PRESETS
from fedpolyp.config.sections.own import WithOwn
from fedpolyp.errors import UsageError
from fedpolyp.files import read_toml
from fedpolyp.section import Section, sentence


def load(file: Path | None = None, preset: str | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """The config from the defaults, then `preset`, then the TOML `file`, then `overrides` (dotted names).

    It is for an experiment that will be carried out: its scheme and its algorithm are imported, and check their own
    settings.

    Raises:
        UsageError: the file cannot be read, a name is unknown or a value is out of bounds.
    """
    return _merged(file, preset, overrides).ready_to_partition().ready()


def read(file: Path) -> Config:
    """The config in a TOML `file` that another party may have written: no module that it names is imported.

    Raises:
        UsageError: the file cannot be read, a name is unknown or a value is out of bounds.
    """
    return _merged(file)


def _merged(file: Path | None, preset: str | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    tree: dict[str, Any] = {}
    if preset is not None:
        if preset not in PRESETS:
            raise UsageError(f"preset must be one of {', '.join(PRESETS)}; got '{preset}'")
        _merge(tree, PRESETS[preset])
    if file is not None:
        _merge(tree, _read_flat(file))
    _merge(tree, overrides or {})
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise UsageError(sentence(error, known=_names(Config))) from None


def _names(section: type[Section], prefix: str = "") -> list[str]:
    """The dotted names of the settings in `section` and the tables in it."""
    names: list[str] = []
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            names += _names(field.annotation, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def to_toml(config: Config, explain: bool = False) -> str:
    """`config` as TOML that `load` reads back to an equal config; with `explain`, each value's meaning as a comment."""
    lines = _toml_lines(config, explain)
    for name, section in config:
        if isinstance(section, Section):
            lines += ["", f"[{name}]", *_toml_lines(section, explain)]
    return "\n".join(lines) + "\n"


def fingerprint(file: Path) -> str:
    """SHA-256 of the settings in the config.toml at `file` that decide a run's bits.

    Only what is written there counts: a new setting or a new default of a later version leaves the fingerprint of an
    old run as it was. Settings that do not decide the bits are left out: those of the machine, the arm's label, the
    paths of the images and of the partition (which have digests of their own), and the number of rounds where the
    learning rate does not depend on it.

    Raises:
        UsageError: the file cannot be read.
    """
    said = {name: value for name, value in _read_flat(file).items() if name.partition(".")[0] != "runtime"}
    for name in ("arm_label", "hospitals.partition"):
        said.pop(name, None)
    said = {name: value for name, value in said.items() if not _within(name, "data.source")}
    if said.get("training.schedule") == "constant":
        said.pop("federation.rounds", None)
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def changed_toml(text: str, changes: Mapping[str, Any]) -> str:
    """The config.toml `text` with other values for the settings in `changes` (dotted names), and everything else
    unchanged.

    Raises:
        UsageError: a setting does not have its own line, as `to_toml` writes it.
    """
    lines, section, left = text.splitlines(), "", dict(changes)
    for number, line in enumerate(lines):
        if line.startswith("["):
            section = line.strip().strip("[]") + "."
        name = section + line.partition("=")[0].strip()
        if name in left:
            lines[number] = f"{name.removeprefix(section)} = {_toml_value(left.pop(name))}"
    changed = "\n".join(lines) + "\n"
    before = _flatten(tomllib.loads(text))
    kept = {name: value for name, value in before.items() if not any(_within(name, other) for other in changes)}
    if left or _flatten(tomllib.loads(changed)) != kept | _flatten(changes):
        raise UsageError(
            f"config.toml is not in the form that fedpolyp writes, so {', '.join(changes)} cannot be changed in it"
        )
    return changed


def _within(name: str, table: str) -> bool:
    return name == table or name.startswith(f"{table}.")


def value_of(text: str) -> object:
    """`text` as a TOML value if it is one, otherwise unchanged."""
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value


def _toml_lines(section: Section, explain: bool) -> list[str]:
    lines = []
    meanings = {name: field.description for name, field in type(section).model_fields.items()}
    meanings |= _own(section, explain)
    for name, meaning in meanings.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            continue
        # TOML has no null: an unset value is shown commented out.
        line = f"# {name} =" if value is None else f"{name} = {_toml_value(value)}"
        lines.append(f"{line:<32}  # {meaning}" if explain else line)
    return lines


def _own(section: Section, explain: bool) -> Mapping[str, str | None]:
    """The algorithm's or the scheme's own settings, beside its name; with their meanings if asked."""
    if not isinstance(section, WithOwn):
        return {}
    fields = type(section.settings).model_fields if explain else {}
    return {name: fields[name].description if explain else None for name in section.own}


def _toml_value(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, Mapping):  # the names of sources need no quotes
        return "{ " + ", ".join(f"{name} = {_toml_value(item)}" for name, item in value.items()) + " }"
    # Strings, numbers and booleans are written alike in JSON and TOML, except for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _read_flat(file: Path) -> dict[str, Any]:
    tree = read_toml(file, "the config file ")
    try:
        return _flatten(tree)
    except RecursionError:
        raise UsageError(f"{file} is not a config: its tables are nested too deeply") from None


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _merge(tree: dict[str, Any], flat: Mapping[str, Any]) -> None:
    for dotted, value in flat.items():
        *sections, name = dotted.split(".")
        table = tree
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise UsageError(f"'{dotted}' is not a setting: '{section}' is a value, not a table")
        if value == {}:  # an empty table sets nothing, but its name is checked
            table.setdefault(name, value)
        else:
            table[name] = value
