"""What a model can be exported to: one file a format, with one `Format` in it. Importing this takes no time."""

import pkgutil

FORMATS = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
