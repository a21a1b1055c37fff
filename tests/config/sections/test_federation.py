"""Settings of `[federation]` that no bound can say."""

import pytest

from fedpolyp.config import load
from fedpolyp.errors import UsageError


@pytest.mark.parametrize(
    ("name", "value"), [("slow", "hospital-1=2,hospital-2=4, hospital-1=3"), ("liars", "hospital-1,hospital-1")]
)
def test_a_hospital_is_slow_or_lies_once(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"federation.{name} names hospital-1 twice"):
        load(overrides={f"federation.{name}": value})
