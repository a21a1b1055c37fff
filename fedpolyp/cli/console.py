"""The console of every command: it prints text unchanged, and no text can control the terminal."""

import os
from typing import IO, Any

from rich.console import Console

from fedpolyp.cli.output import tolerant
from fedpolyp.text import printable_lines


class PlainConsole(Console):
    """Prints without markup and highlighting; characters that would control a terminal are written out.

    `plain_table` does the same for the cells of tables.
    """

    def __init__(self, file: IO[str] | None = None, soft_wrap: bool = False, **options: Any) -> None:
        super().__init__(file=file, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """See `rich.console.Console.print`."""
        super().print(*(printable_lines(what) if isinstance(what, str) else what for what in objects), **options)


def console_of_its_own() -> PlainConsole:
    """A console on the current standard output, even if that is redirected later: Ray prints there, too."""
    return PlainConsole(file=tolerant(os.fdopen(os.dup(1), "w", encoding="utf-8")))
