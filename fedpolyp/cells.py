"""Names in CSV files: a spreadsheet must not take what somebody else wrote for a formula."""

import re

# What a spreadsheet calculates (https://owasp.org/www-community/attacks/CSV_Injection; four of them in full width),
# and what was guarded before, so that every text is read back as it was.
_FORMULA = re.compile(r"'*(?:\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")


def guarded(text: str) -> str:
    """`text`, a name and no number, as a cell: with an apostrophe before it where a spreadsheet would calculate."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(cell: str) -> str:
    """The text that `guarded` made `cell` of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
