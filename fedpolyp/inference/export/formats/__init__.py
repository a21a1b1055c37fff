"""The export formats: one file for each, with one `Format` in it. Importing this takes no time."""

import pkgutil

FORMATS = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
