"""Tables of a run, as Python has them."""

import sys

import pytest

from fedpolyp.table import Table

ROWS = Table([{"round": 0, "dice": 0.125}, {"round": 1, "dice": 0.5, "loss": 1.0}])


def test_a_table_gives_rows_columns_and_parts_and_none_where_a_row_lacks_a_value() -> None:
    assert ROWS.columns == ("round", "dice", "loss") and len(ROWS) == 2
    assert ROWS[0] == {"round": 0, "dice": 0.125, "loss": None} and ROWS[-1]["loss"] == 1.0
    assert ROWS["dice"] == [0.125, 0.5] and ROWS["loss"] == [None, 1.0]
    assert list(ROWS[1:]) == [ROWS[1]] and ROWS[:0].columns == ROWS.columns
    assert list(ROWS.where(round=1)) == [ROWS[1]] and len(ROWS.where(round=1, dice=0.125)) == 0


def test_a_column_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(KeyError, match="there is no column iou; the columns are round, dice, loss"):
        ROWS["iou"]


def test_a_notebook_shows_the_first_rows_and_how_many_more_there_are_and_no_markup_of_a_value() -> None:
    shown = Table([{"id": f"<b>{number}"} for number in range(25)])._repr_html_()
    assert shown.count("<tr>") == 21 and "&lt;b&gt;19" in shown and "<b>" not in shown
    assert "5 more rows" in shown and "more rows" not in ROWS._repr_html_()


def test_pandas_is_asked_for_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError):
        ROWS.to_pandas()
