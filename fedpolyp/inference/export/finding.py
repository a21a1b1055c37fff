"""Formats by name: each is the only format in a file of the folder `formats`, and has the name of the file."""

import importlib.util

from fedpolyp.errors import UsageError, to_install
from fedpolyp.inference.export import formats
from fedpolyp.inference.export.format import Format
from fedpolyp.inference.export.formats import FORMATS
from fedpolyp.own_code import only


def find(name: str) -> type[Format]:
    """The format called `name`.

    Raises:
        UsageError: there is none.
    """
    if name not in FORMATS:
        raise UsageError(f"--to must be one of {', '.join(FORMATS)}; got '{name}'")
    return only(f"{formats.__name__}.{name}", Format)  # type: ignore[type-abstract]


def make(name: str) -> Format:
    """The format called `name`, after a check that its packages are installed.

    Raises:
        UsageError: there is none, or a package is missing.
    """
    kind = find(name)
    if missing := [package for package, module in kind.needs.items() if importlib.util.find_spec(module) is None]:
        raise UsageError(
            f"--to {name} needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            f"{to_install(kind.extra)}"
        )
    return kind()
