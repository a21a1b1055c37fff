"""Classes in modules: the user's own, by `module:Class`, and the only one that a file defines."""

import importlib
from typing import TypeVar

_Class = TypeVar("_Class")
PLACE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"  # module:Class, as a regular expression
ADVICE = "; put its folder on PYTHONPATH, and not the working folder: nothing is imported from there"


def imported(place: str, base: type[_Class], what: str) -> type[_Class]:
    """The subclass of `base` that `place` names as module:Class; its module is imported.

    Raises:
        ValueError: there is none; the sentence begins with `what`, as in 'the algorithm damped'.
    """
    module, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        raise ValueError(f"{what} cannot be loaded: {error}{ADVICE if missing else ''}") from None
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{what} is not a subclass of {base.__module__}.{base.__qualname__}")
    return found


def only(module: str, base: type[_Class]) -> type[_Class]:
    """The subclass of `base` that `module` defines, which is the only one; the module is imported."""
    found = [kind for kind in vars(importlib.import_module(module)).values() if isinstance(kind, type)]
    (kind,) = (kind for kind in found if issubclass(kind, base) and kind.__module__ == module)
    return kind
