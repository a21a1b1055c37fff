"""CSV files, and names in them: a spreadsheet must not take somebody else's text for a formula."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fedpolyp.errors import FedpolypError
from fedpolyp.files import read_bytes

Row = TypeVar("Row", bound=BaseModel)
_MOST_BYTES = 16 * 1024**2

# What a spreadsheet calculates (https://owasp.org/www-community/attacks/CSV_Injection; four of them in full width), and
# the guard itself, so that every text is read back unchanged.
_FORMULA = re.compile(r"'*(?:\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")


def guarded(text: str) -> str:
    """`text`, a name and not a number, as a cell: with an apostrophe before it if a spreadsheet would calculate it."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(cell: str) -> str:
    """The text from which `guarded` made `cell`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def csv_text(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return text.getvalue()


def read_rows(path: Path, kind: type[Row]) -> tuple[Row, ...]:
    """The rows of a CSV file, each checked as a `kind`; none if there is no file.

    Raises:
        FedpolypError: the file holds something else.
    """
    try:
        text = read_bytes(path, _MOST_BYTES).decode()
        return tuple(kind.model_validate(row) for row in csv.DictReader(io.StringIO(text, newline="")))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise FedpolypError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        told = error.errors()[0]
        raise FedpolypError(f"{path} is damaged: {'.'.join(map(str, told['loc']))}: {told['msg']}") from None
    except (ValueError, csv.Error) as error:
        raise FedpolypError(f"{path} is damaged: {error}") from None
