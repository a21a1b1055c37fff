"""A section that names code, built in or somebody's own, and has the settings of that code beside its own."""

import math
import re
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, ValidationError, model_validator

from fedpolyp.section import NO_TEXT, Section, sentence
from fedpolyp.text import printable

_SETTING = re.compile("[a-z][a-z0-9_]{0,39}")  # of such code, by its name


class WithOwn(Section):
    """A section with the settings of the class that it names.

    Reading a config imports no code that it names, whoever wrote it. The settings of a built-in class are checked at
    once, those of another when they are needed; see `ready`.
    """

    model_config = ConfigDict(extra="allow")

    table: ClassVar[str]  # the section's name

    @property
    def built_in(self) -> bool:
        """Whether the class that is named is this project's own.

        Raises:
            ValueError: no class can have this name.
        """
        raise NotImplementedError

    def _kind(self) -> type[Section]:
        """The settings of the class that is named, which is imported.

        Raises:
            ValueError: there is no such class.
        """
        raise NotImplementedError

    @model_validator(mode="after")
    def _own(self) -> Self:
        if self.built_in:
            own = self.settings.model_dump()  # its defaults are written out with all others
        else:
            own = {name: self._plain(name, value) for name, value in self.own.items()}
        self.__pydantic_extra__ = own
        return self

    def _plain(self, name: str, value: Any) -> Any:
        """The setting `name` of code that has not checked it yet, with a list as a tuple.

        Raises:
            ValueError: a TOML file of settings could not contain it.
        """
        several = isinstance(value, (list, tuple))
        if not (_SETTING.fullmatch(name) and all(map(_is_plain, value if several else [value]))):
            said = printable(name, 100)
            raise ValueError(f"{self.table}.{said} must be a number, true, false, a text, or a list of them")
        return tuple(value) if several else value

    @property
    def own(self) -> dict[str, Any]:
        """The own settings of what is named as they are here, by name; imports nothing."""
        return dict(self.model_extra or {})

    @property
    def settings(self) -> Section:
        """The own settings of what is named, checked by its `Settings`; imports it.

        Raises:
            ValueError: there is no such class, or a setting is unknown or out of bounds.
        """
        kind = self._kind()
        if taken := sorted(kind.model_fields.keys() & type(self).model_fields.keys()):
            raise ValueError(
                f"{self.table}.{taken[0]} is a setting of every run: {kind.__module__}.{kind.__qualname__} must give "
                "its own another name"
            )
        try:
            return kind.model_validate(self.own)
        except ValidationError as error:
            raise ValueError(sentence(error, f"{self.table}.")) from None

    def ready(self) -> Self:
        """The same, with all settings of what is named checked and written out; imports it.

        Raises:
            ValueError: there is no such class, or a setting is unknown or out of bounds.
        """
        return type(self)(**self.model_dump() | self.settings.model_dump())


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return not NO_TEXT.search(value)
    return value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))
