"""A table of site.toml says in one sentence what it does not take."""

from pathlib import Path

import pytest

from fedpolyp.errors import UsageError
from fedpolyp.sites.table import Table


@pytest.mark.parametrize(("text", "shown"), [("\0x", r"\\x00x"), ("a\nb", r"a\\nb"), ("\x1b[2J", r"\\x1b\[2J")])
def test_a_control_character_in_a_text_is_one_sentence(text: str, shown: str) -> None:
    class Named(Table):
        data: str = ""

    with pytest.raises(UsageError, match=rf"^site.toml: data must not have control characters; got '{shown}'$"):
        Named.of({"data": text}, Path("site.toml"))
