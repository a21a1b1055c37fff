"""A name stays in its folder, on its line and in its cell."""

import pytest

from fedpolyp.names import check_hospital, check_id, shown


@pytest.mark.parametrize("name", ["hospital-1", "oslo", "St. Mary_2", "A", "0", "x" * 63])
def test_what_hospitals_are_called_is_taken(name: str) -> None:
    assert check_hospital(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "/etc",
        "a\nb",
        "a\x1b[2J",
        "<b>",
        "a\u2028",
        "-x",
        "=1",
        "x" * 64,
        "a ",
        "ø",
    ],
)
def test_what_leads_elsewhere_or_is_code_names_no_hospital(name: str) -> None:
    with pytest.raises(ValueError, match="a hospital's name has"):
        check_hospital(name)


@pytest.mark.parametrize("id", ["cju0qkwl35piu0993l0dewei2", "ü", "frame 12 (copy)", "clinic/7", "a.b", "-", "x" * 255])
def test_what_images_are_called_is_taken(id: str) -> None:
    assert check_id(id) == id


@pytest.mark.parametrize(
    "id",
    [
        "",
        "..",
        "../x",
        "a/../b",
        "/x",
        "a//b",
        "a/",
        "a\\..\\b",
        "a\x00",
        "a\nb",
        "\x1b]0;",
        "\x9b",
        "a\u202eb",
        "\ud800",
        "x" * 256,
    ],
)
def test_what_leads_elsewhere_or_controls_a_terminal_names_no_image(id: str) -> None:
    with pytest.raises(ValueError, match="an image's id"):
        check_id(id)


def test_what_is_shown_is_short_and_plain() -> None:
    assert shown("a\x1b[2J") == r"'a\x1b[2J'"
    assert len(shown("x" * 10_000)) == 82
