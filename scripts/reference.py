"""The reference pages, generated from the code: every setting, and every command."""

import re
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from fedpolyp.algorithms.finding import BUILT_IN, settings_of
from fedpolyp.cli import app
from fedpolyp.cli.options import PANELS, option_of
from fedpolyp.config import PRESETS, Config, Section
from fedpolyp.data.partition.finding import SCHEMES, find

_SETTINGS = """# Settings

Made from the code. A setting is given by its own option, by `--set NAME=VALUE`, or by its name in a TOML file
(`--config FILE`). An option wins over the file, the file over the preset, the preset over the default.
`fedpolyp config` prints all settings.
"""
_COMMANDS = """# Commands

Made from the code, as `fedpolyp COMMAND --help` is. Exit codes: 0 done, 1 failed or interrupted, 2 wrong use.
"""
_MARKUP = re.compile(r"\[/?(?:dim|bold)\]")
_PRESETS = {
    "paper": "A U-Net of the size in Ronneberger et al. 2015.",
    "seed": "A U-Net with dropout and without normalization, trained by cross-entropy alone.",
    "pretrained": "An encoder [pretrained on ImageNet](models.md#start-from-an-encoder-pretrained-on-imagenet).",
}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_TYPES: dict[Any, str] = {int: "integer", float: "number", str: "text", bool: "true, false"}


def settings_page() -> str:
    """A table of the settings of each section, then those of each algorithm, scheme and preset."""
    parts = [_SETTINGS]
    for name, field in Config.model_fields.items():
        value = field.default
        if isinstance(value, Section):
            rows = ((f"{name}.{member}", info) for member, info in type(value).model_fields.items())
            parts.append(f"## {PANELS[name]}: `[{name}]`\n\n{_settings(rows)}")
    plain = ((name, field) for name, field in Config.model_fields.items() if not isinstance(field.default, Section))
    parts.insert(1, f"## {PANELS['']}\n\n{_settings(plain)}")
    parts.append("## Own settings of the algorithms\n\nWhat each one is: [which algorithm?](algorithms.md)\n")
    parts += _own("algorithm", ((name, settings_of(name)) for name in BUILT_IN))
    parts.append("## Own settings of the schemes\n\nWhat each one is: [which hospitals?](hospitals.md)\n")
    parts += _own("hospitals", ((name, find(name).Settings) for name in SCHEMES))
    parts.append("## Presets\n\n`--preset NAME` starts from these values.\n")
    for name, own in PRESETS.items():
        told = "\n".join(f"| `{setting}` | `{_value(value)}` |" for setting, value in own.items())
        parts.append(f"### {name}\n\n{_PRESETS[name]}\n\n| setting | value |\n|---|---|\n{told}\n")
    return "\n".join(parts)


def commands_page() -> str:
    """Every command with its arguments and options; of settings only where they are told."""
    parts = [_COMMANDS]
    for name, command in _commands(typer.main.get_command(app), "fedpolyp"):
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [one for one in command.params if one.param_type_name == "option" and one.name != "help"]
        own = [one for one in options if not getattr(one, "rich_help_panel", None)]
        parts.append(f"## {name}\n\n```\n{_usage(name, arguments, own)}\n```\n\n{_text(command.help)}\n")
        if rows := [*(_row(one) for one in arguments), *(_row(one) for one in own)]:
            parts.append("| | |\n|---|---|\n" + "\n".join(rows) + "\n")
        if panels := list(dict.fromkeys(one.rich_help_panel for one in options if one not in own)):
            parts.append(f"And the options of these settings: {', '.join(map(_section, panels))}.\n")
    return "\n".join(parts)


def _section(panel: str) -> str:
    """A link to the settings that a command has under this heading."""
    (name,) = (name for name, heading in PANELS.items() if heading == panel)
    return f"[{panel}](settings.md#{'-'.join(filter(None, (*panel.lower().split(), name)))})"


def _settings(rows: Iterable[tuple[str, FieldInfo]], with_option: bool = True) -> str:
    lines = ["| setting | option | values | default | |", "|---|---|---|---|---|"]
    for name, info in rows:
        option = f"`--{option_of(name)}`" if with_option else ""
        default = "unset" if info.default is None else f"`{_value(info.default)}`"
        cells = (f"`{name}`", option, _kind(info), default, info.description or "")
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _own(section: str, kinds: Iterable[tuple[str, type[Section]]]) -> Iterator[str]:
    for name, kind in kinds:
        if kind.model_fields:
            rows = ((f"{section}.{member}", info) for member, info in kind.model_fields.items())
            yield f"### {name}\n\n{_settings(rows)}"


def _kind(info: FieldInfo) -> str:
    """What a setting may be, in few words."""
    bounds = []
    for one in info.metadata:
        bounds += [f"{sign} {getattr(one, name)}" for name, sign in _BOUNDS.items() if hasattr(one, name)]
    return " ".join(filter(None, (_type(info.annotation), ", ".join(bounds))))


def _type(kind: Any) -> str:
    if kind in _TYPES:
        return _TYPES[kind]
    origin, parts = get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        return _type(parts[0])
    if origin is Literal:
        return ", ".join(str(one) for one in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(one) for one in parts if one is not type(None))
    if origin is tuple:
        return f"{len(parts)} {_type(parts[0])}s" if ... not in parts else f"{_type(parts[0])} …"
    return "table"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", {})
    if not below or command.invoke_without_command:
        yield name, command
    for word, one in below.items():
        yield from _commands(one, f"{name} {word}")


def _usage(name: str, arguments: Iterable[Any], options: Iterable[Any]) -> str:
    words = [_metavar(one) if one.required else f"[{_metavar(one)}]" for one in arguments]
    needed = [f"{one.opts[0]} {_metavar(one)}" for one in options if one.required]
    return " ".join([name, *needed, *words])


def _metavar(one: Any) -> str:
    return str(one.metavar or (one.name or "").upper().replace("_", "-")).strip("[]")


def _row(one: Any) -> str:
    flag = getattr(one, "is_flag", False)
    called = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
    if one.param_type_name == "argument":
        called = f"`{_metavar(one)}`"
    elif not flag and one.metavar:
        called += f" `{one.metavar}`"
    meaning = _text(getattr(one, "help", "") or "")
    told = [f"one of {', '.join(one.type.choices)}"] if hasattr(one.type, "choices") else []
    if one.param_type_name == "option" and one.required:
        told.append("required")
    elif one.show_default and one.default not in (None, False, ""):
        told.append(f"default: {one.opts[0] if one.default is True else one.default}")
    if told:
        meaning += f" ({'; '.join(told)})"
    return f"| {_cell(called)} | {_cell(meaning)} |"


def _text(marked: str | None) -> str:
    """Rich's markup as Markdown."""
    told = _MARKUP.sub("", marked or "").replace("\\[", "[").strip()
    return re.sub(r"\s*\[(?P<default>[^\[\]]*)\]$", lambda found: f" (default: {found['default']})", told)


def _cell(text: str) -> str:
    # A bar ends a cell, unless it is in code, and what looks like a tag would be one.
    pieces = " ".join(text.split()).split("`")
    pieces[::2] = [piece.replace("|", "\\|").replace("<", "&lt;") for piece in pieces[::2]]
    return "`".join(pieces)
