"""A table of site.toml or coordinator.toml: the base of their settings."""

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from fedpolyp.errors import UsageError
from fedpolyp.text import printable

_LONGEST_PATH = 4096
SAID = 100  # characters of what was received instead


class Table(BaseModel):
    """A table of a TOML file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="after")
    def _written(self) -> Self:
        for name in type(self).model_fields:
            if not isinstance(value := getattr(self, name), (str, Path)):
                continue
            if any(unicodedata.category(char) in ("Cc", "Cs") for char in str(value)):
                raise ValueError(f"{name} must not have control characters; got '{printable(value, SAID)}'")
            if len(str(value)) > _LONGEST_PATH:
                raise ValueError(f"{name} may have {_LONGEST_PATH} characters; it has {len(str(value))}")
        return self

    @classmethod
    def of(cls, plain: Mapping[str, Any], file: Path) -> Self:
        """The table with the content `plain` of `file`.

        Raises:
            UsageError: a value is missing, unknown or out of bounds.
        """
        try:
            return cls.model_validate(plain)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "value_error":
                raise UsageError(f"{file}: {problem['ctx']['error']}") from None
            raise UsageError(
                f"{file}: {where}: {problem['msg']}; got {printable(repr(problem['input']), 200)}"
            ) from None
