"""Schemes by name: built-in ones, each the only one in a file of `schemes` and with its name, and `module:Class`."""

import pkgutil
import re
from typing import TYPE_CHECKING

from fedpolyp.data.partition import schemes
from fedpolyp.data.partition.scheme import Scheme
from fedpolyp.own_code import PLACE, imported, only
from fedpolyp.text import printable

if TYPE_CHECKING:
    from fedpolyp.config import HospitalsConfig

SCHEMES = tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(schemes.__path__)))
# Possible names: a name, or a class in a module.
NAME = re.compile(rf"(?=.{{1,100}}$)({'|'.join(SCHEMES)}|{PLACE})", re.ASCII)
NAME_LIKE = f"one of {', '.join(SCHEMES)}, or module:Class"


def find(name: str) -> type[Scheme]:
    """The scheme called `name`; one that is not built in is somebody's code, which is imported.

    Raises:
        ValueError: there is none, or it is not a scheme.
    """
    if name in SCHEMES:
        return only(f"{schemes.__name__}.{name.replace('-', '_')}", Scheme)
    if ":" in name:
        return imported(name, Scheme, f"the scheme {name}")
    raise ValueError(f"hospitals.scheme must be {NAME_LIKE}; got '{printable(name, 100)}'")


def make(wanted: "HospitalsConfig") -> Scheme:
    """The scheme of `wanted`, with its settings."""
    return find(wanted.scheme)(wanted.settings, wanted.skew, wanted.min_images)
