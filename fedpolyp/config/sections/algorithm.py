"""`[algorithm]`: how hospitals train and the server combines."""

import math
import re
from typing import Any, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from fedpolyp.algorithms.finding import BUILT_IN, NAME, NAME_LIKE, find
from fedpolyp.section import NO_TEXT, Section, sentence
from fedpolyp.text import printable

_SETTING = re.compile("[a-z][a-z0-9_]{0,39}")  # of an algorithm, by its name


def _plain(name: str, value: Any) -> Any:
    """The setting `name` of an algorithm that has not checked it yet, with a list as a tuple.

    Raises:
        ValueError: a TOML file of settings could not contain it.
    """
    several = isinstance(value, (list, tuple))
    if not (_SETTING.fullmatch(name) and all(map(_is_plain, value if several else [value]))):
        said = printable(name, 100)
        raise ValueError(f"algorithm.{said} must be a number, true, false, a text, or a list of them")
    return tuple(value) if several else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return not NO_TEXT.search(value)
    return value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))


class AlgorithmConfig(Section):
    """The algorithm, and its own settings.

    Reading a config imports no code that it names, whoever wrote it. The settings of a built-in algorithm are checked
    at once, those of another when they are needed; see `Config.ready`.
    """

    model_config = ConfigDict(extra="allow")

    name: str = Field(
        "fedavg",
        description=f"how hospitals train and the server combines: {', '.join(BUILT_IN)}, or "
        "module:Class; pooled and local are the references",
    )

    @model_validator(mode="after")
    def _own(self) -> Self:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"algorithm must be {NAME_LIKE}; got '{printable(self.name, 100)}'")
        if self.name in BUILT_IN:
            own = self.settings.model_dump()  # its defaults are written out with all others
        else:
            own = {name: _plain(name, value) for name, value in self.own.items()}
        self.__pydantic_extra__ = own
        return self

    @property
    def own(self) -> dict[str, Any]:
        """The algorithm's own settings as they are here, by name; imports nothing."""
        return dict(self.model_extra or {})

    @property
    def settings(self) -> Section:
        """The algorithm's own settings, checked by its `Settings`; imports the algorithm.

        Raises:
            ValueError: there is no such algorithm, or a setting is unknown or out of bounds.
        """
        kind = find(self.name).Settings
        try:
            return kind.model_validate(self.own)
        except ValidationError as error:
            raise ValueError(sentence(error, "algorithm.")) from None
