import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpolyp.cells import guarded, unguarded


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "  =1", "'=1", "\uff1d1"])
def test_a_name_that_a_spreadsheet_would_calculate_is_text(name: str) -> None:
    assert guarded(name) == f"'{name}"


@pytest.mark.parametrize("name", ["", "hospital-1", "a=b", "'quoted'", "cju0qkwl35piu0993l0dewei2"])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert guarded(name) == unguarded(name) == name


@given(st.text(alphabet="'=+-@\t\r\n ax,\""))
def test_every_name_is_read_back_as_it_was(name: str) -> None:
    assert unguarded(guarded(name)) == name
    text = io.StringIO()
    csv.writer(text).writerow([guarded(name)])
    assert [unguarded(cell) for cell in next(csv.reader(io.StringIO(text.getvalue(), newline="")))] == [name]
