"""Where images are, as a user writes it: one place, or several by name. Imports nothing that takes time."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedpolyp.errors import UsageError
from fedpolyp.text import printable

PHANTOM = "phantom"
NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
NAME_LIKE = "1 to 40 letters, digits, hyphens and underscores, and begins with a letter or digit"


def parse(given: Sequence[str]) -> str | dict[str, str]:
    """The one place that was given, or the places by name if they were given as NAME=PLACE.

    Raises:
        UsageError: several places have no name, or two have the same.
    """
    named: dict[str, str] = {}
    for text in given:
        name, equals, place = text.partition("=")
        if not equals or not NAME.fullmatch(name) or os.path.exists(text):
            if len(given) > 1:
                raise UsageError(
                    f"several sources need a name each, as in kvasir=FOLDER (a name has {NAME_LIKE}); "
                    f"got '{printable(text)}'"
                )
            return text
        if not place:
            raise UsageError(f"the source {name} names no folder; got '{printable(text)}'")
        if name in named:
            raise UsageError(f"two sources are called {name}")
        named[name] = place
    return named


def by_name(source: str | Mapping[str, str]) -> dict[str, str]:
    """The places by name; a single one without a name has ''."""
    return {"": source} if isinstance(source, str) else dict(source)


def called(source: str | Mapping[str, str]) -> str:
    """A short name for a source: the last part of its path, or the names of several."""
    return Path(source).name if isinstance(source, str) else "+".join(source)


def absolute(source: str | Mapping[str, str]) -> str | dict[str, str]:
    """`source` with paths that mean the same from every working directory."""
    if not isinstance(source, str):
        return {name: _absolute(place) for name, place in source.items()}
    return source if source == PHANTOM else _absolute(source)


def two_folders(place: str) -> tuple[Path, Path] | None:
    """The folders of images and of masks if `place` is IMAGES:MASKS; None if it does not name two folders."""
    if os.path.exists(os.path.expanduser(place)):
        return None
    for colon in re.finditer(os.pathsep, place):
        folders = [Path(os.path.expanduser(part)) for part in (place[: colon.start()], place[colon.end() :]) if part]
        if len(folders) == 2 and all(folder.is_dir() for folder in folders):
            return folders[0].resolve(), folders[1].resolve()
    return None


def _absolute(place: str) -> str:
    if two := two_folders(place):
        return os.pathsep.join(map(str, two))
    return str(Path(os.path.expanduser(place)).resolve())  # which, unlike Path's, leaves the ~ of an unknown user alone
