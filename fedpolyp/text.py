"""Makes text of another party (a site's reason, a request, a file's name) safe to print, log and write."""


def printable(text: object, most: int = 0) -> str:
    r"""`text` on one line, with every character that does not print as itself written as `\x1b` or `\n`.

    So nothing in it can control a terminal, forge a line of a log, or change the direction of writing. Text that may
    come from another party passes through here once, where it comes in or where it is shown; a second time changes
    nothing.

    Args:
        text: what is shown by `str`.
        most: characters kept, of `text` and of the result; the rest is cut off and marked by '…'. 0 keeps all.
    """
    plain = str(text)
    whole = "".join(char if char.isprintable() else _written_out(char) for char in (plain[:most] if most else plain))
    return f"{whole[: most - 1]}…" if most and max(len(plain), len(whole)) > most else whole


def printable_lines(text: str) -> str:
    """`text` with its line ends kept, and each line `printable`."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _written_out(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
