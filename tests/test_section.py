"""No text of a section is what no file could be called."""

import pytest

from fedpolyp.config import load
from fedpolyp.errors import UsageError


@pytest.mark.parametrize("name", ["data.source", "data.lists", "runtime.ray_address"])
@pytest.mark.parametrize("bad", ["\0x", "pic\0tures", "\udcff"])
def test_a_path_that_cannot_be_is_one_sentence(name: str, bad: str) -> None:
    with pytest.raises(UsageError, match=f"^{name} must be a path in UTF-8 without a NUL character; got "):
        load(overrides={name: bad})


def test_weights_in_a_file_that_cannot_be_are_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"model.encoder_weights must be a path in UTF-8 without a NUL"):
        load(overrides={"model.encoder": "mobilenet-v2", "model.encoder_weights": "a\0b.h5"})
