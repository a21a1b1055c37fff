"""A table of the TOML file: the base of every part of the config, and of an algorithm's settings."""

import difflib
import re
from collections.abc import Collection
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

NO_TEXT = re.compile("[\0\ud800-\udfff]")  # what no text has; Python reads a name that is not UTF-8 with surrogates
_PROBLEMS, _SHOWN = 5, 200  # how much is reported about a file with many errors


def like(pattern: str, words: str) -> AfterValidator:
    """A check that a text fits `pattern`; the error is 'must be ' and `words`, which say the same."""
    fits = re.compile(pattern, re.ASCII)

    def checked(text: str | None) -> str | None:
        if text is not None and not fits.fullmatch(text):
            raise PydanticCustomError("not_like", "must be {words}", {"words": words})
        return text

    return AfterValidator(checked)


Sha256 = Annotated[str | None, like("[0-9a-f]{64}", "64 hexadecimal digits")]


class Section(BaseModel):
    """A table of the TOML file; unknown keys and later changes are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _written(self) -> Self:
        """Texts are paths, except for some that are checked more closely."""
        section = type(self).__name__.removesuffix("Config").lower()
        for name in type(self).model_fields:
            if isinstance(text := getattr(self, name), str) and NO_TEXT.search(text):
                raise ValueError(f"{section}.{name} must be a path in UTF-8 without a NUL character; got {text!r}")
        return self


def sentence(error: ValidationError, prefix: str = "", known: Collection[str] = ()) -> str:
    """What is wrong with settings, in words; the names begin with `prefix`, and `known` are those that there are."""
    parts: list[str] = []
    for problem in error.errors(include_url=False)[:_PROBLEMS]:
        where = prefix + (".".join(str(part) for part in problem["loc"]) or "config")
        if problem["type"] == "extra_forbidden":
            parts.append(
                f"{where} is not a setting ('fedpolyp config' lists them{_meant(where, problem['input'], known)})"
            )
        elif problem["type"] == "value_error":
            parts.append(str(problem["ctx"]["error"]))
        else:
            said = problem["msg"].replace("Input should be", "must be")
            got = repr(problem["input"])
            parts.append(f"{where} {said}; got {got if len(got) <= _SHOWN else got[:_SHOWN] + '…'}")
    return "; ".join(parts)


def _meant(name: str, value: Any, known: Collection[str]) -> str:
    """What the user may have meant by an unknown name, to be added to a sentence."""
    own = name.rpartition(".")[2]
    meant = [one for one in known if one.rpartition(".")[2] == own] or difflib.get_close_matches(name, known, 1, 0.8)
    if meant:
        return f"; did you mean {' or '.join(meant)}?"
    if known and own == name and not isinstance(value, dict):
        return f"; one of the algorithm's own is algorithm.{name}"
    return ""
