"""The experiment's settings as command-line options, generated from the config so that the two never differ."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.markup import escape

from fedpolyp.algorithms.finding import BUILT_IN, known, settings_of
from fedpolyp.config import PRESETS, Config, RuntimeConfig, Section, load, value_of
from fedpolyp.data import places
from fedpolyp.data.partition.finding import SCHEMES
from fedpolyp.data.partition.finding import find as find_scheme
from fedpolyp.errors import UsageError
from fedpolyp.experiment.settled import settled
from fedpolyp.experiment.single import refuse_fewer_rounds

# For settings whose own name would say too little on a command line.
_NAMES = {
    "algorithm.name": "algorithm",
    "data.source": "data",
    "data.seed": "data-seed",
    "hospitals.count": "hospitals",
    "hospitals.val": "val-fraction",
    "privacy.mode": "privacy",
    "hospitals.test": "test-fraction",
    "hospitals.heldout_camera": "held-out-camera",
}
_SEVERAL = "data.source"  # may be given more than once
# The other options that all these commands have.
_FLAGS = {"config", "preset", "set", "help", "h", "config_file", "by_name"}
# The headings of the sections' options.
PANELS = {
    "": "Experiment",
    "data": "Images",
    "hospitals": "Hospitals",
    "model": "U-Net",
    "training": "Training at a hospital",
    "algorithm": "Algorithm",
    "privacy": "Privacy",
    "federation": "Federation",
    "runtime": "This machine",
}


@dataclass(frozen=True)
class Given:
    """The settings that the user gave: a file, a preset, single options."""

    file: Path | None
    preset: str | None
    overrides: Mapping[str, Any]

    def config(self) -> Config:
        """The whole config from them, with absolute paths."""
        return settled(load(self.file, self.preset, self.overrides))

    def resumed(self, config: Config) -> Config:
        """The `config` of a resumed run: with the given runtime settings, the new path of its images, more rounds.

        Raises:
            UsageError: other settings were given, which would make it another run.
        """
        changes = {name: value for name, value in self.overrides.items() if name in _RESUMED}
        other = [
            "--" + _NAMES.get(name, name.rpartition(".")[2].replace("_", "-"))
            for name in self.overrides.keys() - changes
        ]
        other.sort()
        other += [name for name, value in (("--config", self.file), ("--preset", self.preset)) if value is not None]
        if other:
            raise UsageError(
                f"--resume uses the run's own settings, so {', '.join(other)} cannot be given; allowed are "
                f"{', '.join('--' + option.replace('_', '-') for option in _RESUMED.values())}"
            )
        checked = settled(load(overrides=changes))
        if "federation.rounds" in changes:
            refuse_fewer_rounds(config, checked.federation.rounds)
        tables: dict[str, dict[str, Any]] = {}
        for name in changes:
            section, _, member = name.partition(".")
            tables.setdefault(section, {})[member] = getattr(getattr(checked, section), member)
        return config.model_copy(
            update={section: getattr(config, section).model_copy(update=table) for section, table in tables.items()}
        )


# What may be given with --resume, by its option.
_RESUMED = {"data.source": "data", "federation.rounds": "rounds"}
_RESUMED |= {f"runtime.{name}": name for name in RuntimeConfig.model_fields}


def with_settings(
    sections: tuple[str, ...] = tuple(PANELS), without: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command an option for every setting of `sections` except `without`, and `--config` and `--preset`.

    The command receives the user's settings as its argument `given`.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "given"]
        taken = _FLAGS | {parameter.name for parameter in own}
        settings = {name: option for name, option in _settings(sections, taken).items() if name not in without}

        def run(**arguments: Any) -> Any:
            values = {setting: arguments.pop(parameter.name) for setting, parameter in settings.items()}
            overrides = {setting: value for setting, value in values.items() if value is not None}
            if _SEVERAL in overrides:
                overrides[_SEVERAL] = places.parse(overrides[_SEVERAL])
            named = _by_name(arguments.pop("by_name") or ())
            if twice := sorted(named.keys() & overrides.keys()):
                raise UsageError(f"{twice[0]} is given twice: with --set and with its option")
            overrides |= named
            given = Given(arguments.pop("config_file"), arguments.pop("preset"), overrides)
            return command(given=given, **arguments)

        parameters = [*own, *_FILE_PARAMETERS, *settings.values()]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # Typer reads the options there
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return decorate


def _settings(sections: tuple[str, ...], taken: Iterable[str]) -> dict[str, inspect.Parameter]:
    """An option for every setting of `sections`, by the setting's dotted name.

    A setting of an algorithm or a scheme has no option if another option, or one of `taken`, has its name: it is given
    with --set.
    """
    taken = {*taken, *(option_of(name).replace("-", "_") for name in _names_of_settings())}
    found = {}
    for name, field in Config.model_fields.items():
        value = field.default
        members = type(value).model_fields.items() if isinstance(value, Section) else [("", field)]
        section = name if isinstance(value, Section) else ""
        if section not in sections:
            continue
        own = _own_of(section)
        for member, info in [*members, *own.items()]:
            dotted = f"{name}.{member}" if member else name
            option = option_of(dotted)
            if member in own and member in taken:
                continue
            default = info.default
            flag = f"--{option}/--no-{option}" if isinstance(default, bool) else f"--{option}"
            about = typer.Option(
                flag,
                help=_meaning(info),
                show_default=False,
                rich_help_panel=PANELS[section],
            )
            found[dotted] = inspect.Parameter(
                option.replace("-", "_"),
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[(list[str] if dotted == _SEVERAL else info.annotation) | None, about],
            )
    return found


def _names_of_settings() -> list[str]:
    """The dotted names of all settings except the algorithms' own."""
    found = []
    for name, field in Config.model_fields.items():
        members = type(field.default).model_fields if isinstance(field.default, Section) else ()
        found += [f"{name}.{member}" for member in members] or [name]
    return found


def option_of(dotted: str) -> str:
    """The option of the setting `dotted`, without its leading dashes."""
    return _NAMES.get(dotted, dotted.rpartition(".")[2].replace("_", "-"))


def _own_of(section: str) -> dict[str, FieldInfo]:
    """The own settings of all algorithms, or of all schemes, in a section; each once, because several may have it.

    A package's algorithm that cannot be loaded is ignored unless it is asked for.
    """
    if section == "hospitals":
        return _shared(find_scheme(name).Settings for name in SCHEMES)
    return _shared(_algorithms()) if section == "algorithm" else {}


def _algorithms() -> Iterator[type[Section]]:
    for name in known():
        try:
            yield settings_of(name)
        except Exception:
            if name in BUILT_IN:
                raise


def _shared(kinds: Iterable[type[Section]]) -> dict[str, FieldInfo]:
    found: dict[str, list[FieldInfo]] = {}
    for kind in kinds:
        for setting, info in kind.model_fields.items():
            if _is_plain(info.annotation):
                found.setdefault(setting, []).append(info)
    own = {}
    for setting, infos in found.items():
        own[setting] = FieldInfo(annotation=infos[-1].annotation, default=infos[-1].default)
        own[setting].metadata = infos  # their meanings and defaults differ
    return own


def _is_plain(annotation: Any) -> bool:
    """Whether an option can give a value of this type: a number, a text, a flag, or a choice."""
    if get_origin(annotation) is Literal:
        return True
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return all(part in (int, float, str, bool, type(None)) for part in parts)


def _meaning(info: FieldInfo) -> str:
    """A setting's meaning and default, as Rich's markup; for each algorithm if several have the setting."""
    each = [known for known in info.metadata if isinstance(known, FieldInfo)] or [info]
    meanings = (f"{escape(one.description or '')} [dim]\\[{_shown(one.default)}][/dim]" for one in each)
    return "; ".join(dict.fromkeys(meanings))  # some algorithms share one meaning


def _by_name(given: Iterable[str]) -> dict[str, Any]:
    """Settings that were given as NAME=VALUE.

    Raises:
        UsageError: one was not.
    """
    settings: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--set takes NAME=VALUE, for example --set algorithm.mu=0.1; got '{text}'")
        if name.strip() in settings:
            raise UsageError(f"{name.strip()} is given twice with --set")
        settings[name.strip()] = value_of(value.strip())
        if isinstance(settings[name.strip()], dict):
            raise UsageError(f"--set takes one setting, for example --set algorithm.mu=0.1; got '{text}'")
    return settings


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return " ".join(str(item) for item in default)
    return "unset" if default is None else str(default)


_FILE_PARAMETERS = [
    inspect.Parameter(
        "config_file",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[Path | None, typer.Option("--config", help="TOML file of settings; options override it")],
    ),
    inspect.Parameter(
        "preset",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, typer.Option(help=f"named settings to start from: {', '.join(PRESETS)}")],
    ),
    inspect.Parameter(
        "by_name",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            list[str] | None,
            typer.Option("--set", metavar="NAME=VALUE", help="a setting by its name in the TOML file; may be repeated"),
        ],
    ),
]
