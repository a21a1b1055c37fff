"""Schemes by name: each is the only scheme in a file of the folder `schemes`, and has the name of the file."""

import importlib
import pkgutil
from typing import TYPE_CHECKING

from fedpolyp.data.partition import schemes
from fedpolyp.data.partition.scheme import Scheme

if TYPE_CHECKING:
    from fedpolyp.config import HospitalsConfig

SCHEMES = tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(schemes.__path__)))


def find(name: str) -> type[Scheme]:
    """The scheme called `name`.

    Raises:
        ValueError: there is none.
    """
    if name not in SCHEMES:
        raise ValueError(f"hospitals.scheme must be one of {', '.join(SCHEMES)}; got {name!r}")
    module = importlib.import_module(f"{schemes.__name__}.{name.replace('-', '_')}")
    found = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__]
    (scheme,) = (kind for kind in found if issubclass(kind, Scheme))
    return scheme


def make(wanted: "HospitalsConfig") -> Scheme:
    """The scheme of `wanted`, with its settings."""
    return find(wanted.scheme)(wanted.settings, wanted.skew, wanted.min_images)
