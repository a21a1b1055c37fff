import string

import pytest

from fedpolyp.text import printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x1b[2J", r"\x1b[2J"),
        ("one\nround 9: all is well", r"one\nround 9: all is well"),
        ("one\rtwo\tthree\x9b31m\x7f", r"one\rtwo\tthree\x9b31m\x7f"),
        ("gpj.\u202eexe\u2028\ud800", r"gpj.\u202eexe\u2028\ud800"),
    ],
)
def test_what_would_steer_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown and printable(shown) == shown


def test_words_of_any_language_stay_as_they_are() -> None:
    plain = string.ascii_letters + string.digits + string.punctuation + " Käse, Łódź, 結腸, … 'é'"
    assert printable(plain) == plain


@pytest.mark.parametrize("text", ["x" * 5_000_000, "\x1b" * 5_000_000])
def test_a_long_text_is_cut(text: str) -> None:
    assert len(printable(text, 100)) == 100 and printable(text, 100).endswith("…")
    assert printable("x" * 100, 100) == "x" * 100


def test_line_ends_are_kept_where_there_may_be_several() -> None:
    assert printable_lines("one\ntwo\x1b\x85three") == "one\ntwo\\x1b\\x85three"
