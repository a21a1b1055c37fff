from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from fedpolyp.report.curves import draw_curves


def record(round: int, val_dice: float | None = 0.5, hospitals: int = 2) -> dict[str, Any]:
    own = {"images": 3, "train_loss": 1.0} | ({} if val_dice is None else {"val_dice": val_dice})
    scores = {"round": round, "dice": round / 10, "iou": 0.1, "val_dice": val_dice, "loss": 1.2, "seconds": 1.0}
    return scores | {"hospitals": {f"hospital-{n}": dict(own) for n in range(hospitals)}, "refused": []}


def legends(rounds: list[dict[str, Any]], folder: Path) -> list[list[str]]:
    """What the legends of the two panels say."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", keep)
        draw_curves(folder / "curves.png", rounds)
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    found = [axes.get_legend() for axes in figures[0].axes]
    return [[text.get_text() for text in legend.get_texts()] for legend in found if legend]


def test_the_last_and_the_best_round_are_told_with_their_held_out_dice(tmp_path: Path) -> None:
    dice, _ = legends([record(0, 0.1), record(1, 0.7), record(2, 0.6)], tmp_path)
    assert dice[-2:] == ["last round (2): 0.200", "best on validation (1): 0.100"]


def test_without_validation_no_validation_is_drawn(tmp_path: Path) -> None:
    dice, loss = legends([record(0, None), record(1, None)], tmp_path)
    assert dice == ["held-out set", "last round (1): 0.100"]
    assert loss == ["training, each hospital", "training, mean of hospitals", "held-out set"]


def test_a_run_of_one_record_is_drawn(tmp_path: Path) -> None:
    first = record(0) | {"hospitals": {}}
    assert legends([first], tmp_path)[1] == ["held-out set"]


def test_hospitals_are_named_in_the_legend_even_if_the_first_never_trained(tmp_path: Path) -> None:
    first = record(0)
    del first["hospitals"]["hospital-0"]["train_loss"]
    assert legends([first], tmp_path)[1][0] == "training, each hospital"


def test_many_hospitals_are_not_drawn_one_by_one(tmp_path: Path) -> None:
    assert "validation, each hospital" in legends([record(0, hospitals=20)], tmp_path)[0]
    dice, loss = legends([record(0, hospitals=21)], tmp_path)
    assert "validation, each hospital" not in dice and "training, each hospital" not in loss
    assert "training, mean of hospitals" in loss
