"""What the records of rounds.jsonl say of a run as a whole."""

from typing import Any


def best_on_validation(rounds: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first of the records with the highest validation Dice; None when no round has one."""
    validated = [record for record in rounds if record["val_dice"] is not None]
    return max(validated, key=lambda record: record["val_dice"], default=None)
