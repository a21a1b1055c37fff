"""A small table: rows of named values, for a run's rounds and scored images in Python."""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pandas

_SHOWN = 20  # rows, in a notebook


class Table(Sequence[Mapping[str, Any]]):
    """Rows in order, each a mapping from column to value; a value that a row lacks is None.

    `table[0]` is a row, `table[:5]` a table, `table["dice"]` a column as a list. A notebook shows it as a table.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
        """`columns` in their order; if not given, those of all rows in the order in which they appear."""
        given = list(rows)
        self.columns = tuple(columns if columns is not None else dict.fromkeys(name for row in given for name in row))
        self._rows = [{name: row.get(name) for name in self.columns} for row in given]

    @overload
    def __getitem__(self, key: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, key: slice) -> "Table": ...
    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    def __getitem__(self, key: int | slice | str) -> "Mapping[str, Any] | Table | list[Any]":
        """A row, some rows, or a column.

        Raises:
            KeyError: there is no such column.
        """
        if isinstance(key, str):
            if key not in self.columns:
                raise KeyError(f"there is no column {key}; the columns are {', '.join(self.columns)}")
            return [row[key] for row in self._rows]
        return Table(self._rows[key], self.columns) if isinstance(key, slice) else self._rows[key]

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """The rows."""
        return iter(self._rows)

    def where(self, **wanted: object) -> "Table":
        """The rows whose columns have these values: `images.where(set="heldout", model="last")`."""
        return Table((row for row in self._rows if all(row[name] == v for name, v in wanted.items())), self.columns)

    def to_pandas(self) -> "pandas.DataFrame":
        """The table as a pandas DataFrame.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        import pandas

        return pandas.DataFrame(self._rows, columns=list(self.columns))

    def __repr__(self) -> str:
        """Its size."""
        return f"Table({len(self)} rows: {', '.join(self.columns)})"

    def _repr_html_(self) -> str:
        """The table as a notebook shows it."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        shown = self._rows[:_SHOWN]
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(_text(value))}</td>' for value in row.values())}</tr>" for row in shown
        )
        more = f"<p>{len(self) - _SHOWN} more rows</p>" if len(self) > _SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
