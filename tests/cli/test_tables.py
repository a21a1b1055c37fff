import io
from typing import Any

import pytest
from rich.console import Console

from fedpolyp.cli.tables import ending, round_table


def records(count: int, hospitals: int, best: int | None = 0) -> list[dict[str, Any]]:
    own = {f"hospital-{n}": {"val_dice": 0.5} for n in range(1, hospitals + 1)} if best is not None else {}
    scores = {"dice": 0.25, "loss": 1.5, "seconds": 123.4, "hospitals": own}
    return [
        scores | {"round": round, "val_dice": None if best is None else 0.9 if round == best else 0.1}
        for round in range(count)
    ]


def printed(rounds: list[dict[str, Any]], width: int = 80, heldout: bool = True) -> list[list[str]]:
    """The words of each line."""
    console = Console(file=io.StringIO(), width=width)
    console.print(round_table(rounds, heldout))
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines() if line.strip()]


def numbers(lines: list[list[str]]) -> list[str]:
    return [line[0] for line in lines if line[0].rstrip("*").isdigit()]


@pytest.mark.parametrize("count", [1, 2, 25, 26, 101, 1000])
def test_a_run_has_about_25_rows_with_the_first_the_last_and_the_best(count: int) -> None:
    best = count * 2 // 3
    shown = numbers(printed(records(count, 1, best)))
    assert min(count, 13) <= len(shown) <= 28
    assert shown[0].rstrip("*") == "0" and shown[-1].rstrip("*") == str(count - 1)
    assert [number for number in shown if number.endswith("*")] == [f"{best}*"]
    if count <= 25:
        assert len(shown) == count


@pytest.mark.parametrize("hospitals", [1, 5, 8])
def test_up_to_eight_hospitals_have_a_column_and_fit_80_columns(hospitals: int) -> None:
    lines = printed(records(3, hospitals))
    assert ["round", "loss", "held-out", "valid.", *map(str, range(1, hospitals + 1)), "sec."] in lines
    assert ["2", "1.500", "0.250", "0.100", *["0.50"] * hospitals, "123.4"] in lines


def test_more_hospitals_have_no_columns() -> None:
    assert ["round", "loss", "held-out", "valid.", "sec."] in printed(records(3, 9))


def test_without_validation_no_round_is_marked() -> None:
    lines = printed(records(3, 5, best=None))
    assert numbers(lines) == ["0", "1", "2"]
    assert ["1", "1.500", "0.250", "-", "123.4"] in lines


def test_without_a_held_out_set_the_table_says_what_was_scored_instead() -> None:
    assert printed(records(2, 1), heldout=False)[0][:5] == ["Dice", "on", "all", "test", "images,"]


def test_the_last_line_names_the_last_model_and_the_best_with_their_files() -> None:
    rounds = records(4, 2, best=1)
    rounds[1]["dice"] = 0.375
    assert ending(rounds) == (
        "held-out Dice 0.250 after round 3 (model-last.keras), "
        "0.375 after round 1, best on validation (model-best.keras)"
    )
    assert ending(records(4, 2, best=None), "the sites' test") == (
        "the sites' test Dice 0.250 after round 3 (model-last.keras)"
    )
    elsewhere = [*rounds[:-1], rounds[-1] | {"unseen": {"clinicdb": 0.5}}]
    assert ending(elsewhere).startswith(
        "held-out Dice 0.250 after round 3, 0.500 on unseen clinicdb (model-last.keras)"
    )
    assert "model-last-<hospital>.keras" in ending(rounds, own_models=True)
    assert "0.375" not in ending(rounds, own_models=True)  # each hospital chose a best of its own
