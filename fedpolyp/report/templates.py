"""Pages from templates, into which no text of somebody else's gets as markup."""

from collections.abc import Callable
from importlib.resources import files as package_files
from typing import TYPE_CHECKING

from fedpolyp.text import printable_lines

if TYPE_CHECKING:
    from jinja2 import Template


def template(name: str, /, **filters: Callable[..., object]) -> "Template":
    """The template in the file `name` of this package, with these filters; an unknown variable is an error."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(lambda file: package_files("fedpolyp.report").joinpath(file).read_text("utf-8")),
        autoescape=True,
        # Only the page's own texts are markup; every other text may be somebody else's.
        finalize=lambda value: printable_lines(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(name)
