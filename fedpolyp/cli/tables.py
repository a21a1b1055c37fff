"""Tables that more than one command prints."""

from typing import Any, Literal

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from fedpolyp.privacy.words import spent
from fedpolyp.report.rounds import best_on_validation
from fedpolyp.text import printable

_ROWS = 25
_HOSPITALS_SHOWN = 8
_HOSPITALS_SPACED = 5


class PlainTable(Table):
    """A table with plain text in its cells: characters that would control a terminal are written out, and markup is
    ignored.
    """

    def add_row(self, *cells: str, **options: Any) -> None:  # type: ignore[override]  # plain text alone
        """See `rich.table.Table.add_row`."""
        super().add_row(*(Text(printable(cell)) for cell in cells), **options)


def plain_table(title: str | None, *headings: str, numbers_from: int = 1) -> PlainTable:
    """An empty table in the common style; columns from `numbers_from` on are right-aligned."""
    table = PlainTable(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.collapse_padding = True
    for place, heading in enumerate(headings):
        # A name that does not fit continues on the next line, because it may have to be typed.
        justify: Literal["left", "right"] = "right" if place >= numbers_from else "left"
        table.add_column(Text(printable(heading)), justify=justify, overflow="fold")
    return table


def round_table(records: list[dict[str, Any]], heldout: bool = True) -> Group:
    """A row for each round: loss, Dice on the held-out set and on validation, Dice at up to 8 hospitals, time.

    Without a `heldout` set, all sites' own test images are used instead. Of a long run about 25 rows stay, always the
    first, the last and the best on validation, which has a star.
    """
    names = sorted({name for r in records for name, own in r["hospitals"].items() if "val_dice" in own})
    shown = names if len(names) <= _HOSPITALS_SHOWN else []
    # Eight hospitals must fit into 80 columns.
    headings = [name.removeprefix("hospital-") for name in shown]
    promised = any(spent(record) for record in records)
    title = f"Dice on {'the held-out set' if heldout else 'all test images'}" + (
        ", and on each hospital's own validation images" if shown else ""
    )
    table = plain_table(
        None,
        *("round", "loss", "held-out" if heldout else "test", "valid."),
        *headings,
        *(["epsilon"] if promised else []),
        "sec.",
        numbers_from=0,
    )
    table.padding = (0, 0) if len(shown) > _HOSPITALS_SPACED else (0, 1)
    best = best_on_validation(records)
    always = {record["round"] for record in (records[0], records[-1], best) if record is not None}
    every = -(-len(records) // _ROWS)
    for record in records:
        if record["round"] % every and record["round"] not in always:
            continue
        hospitals = [_score(record["hospitals"].get(name, {}).get("val_dice"), 2) for name in shown]
        star = "*" if best is not None and record["round"] == best["round"] else " "
        scores = [_score(record[key]) for key in ("loss", "dice", "val_dice")]
        style = "bold" if star == "*" or record is records[-1] else None
        epsilon = [spent(record) or "0"] if promised else []
        table.add_row(
            f"{record['round']}{star}", *scores, *hospitals, *epsilon, f"{record['seconds']:.1f}", style=style
        )
    if best is not None:
        table.caption, table.caption_justify = "* best on validation", "left"
    return Group(Text(title, style="bold"), table)  # a table's own title would be cut to its width


def ending(records: list[dict[str, Any]], scored_on: str = "held-out", own_models: bool = False) -> str:
    """The results of a finished run: the Dice of its last model and of the best on validation, and the files of both.

    With `own_models`, where each hospital has its own, the best are each hospital's own choice and have no Dice here.
    """
    last, best = records[-1], best_on_validation(records)
    said = f"{scored_on} Dice {last['dice']:.3f} after round {last['round']}"
    if stopped := last.get("stopped"):
        said = f"stopped: {stopped}; {said}"
    for source, dice in last.get("unseen", {}).items():
        said += f", {dice:.3f} on unseen {printable(source, 80)}"
    if own_models:
        return (
            f"{said}, mean of the hospitals' models (model-last-<hospital>.keras; best on each one's validation: "
            "model-best-<hospital>.keras)"
        )
    said += " (model-last.keras)"
    if best is not None:
        said += f", {best['dice']:.3f} after round {best['round']}, best on validation (model-best.keras)"
    return said


def _score(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
