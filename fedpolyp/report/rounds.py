"""Summaries of the records of rounds.jsonl."""

from typing import Any

Points = list[tuple[int, float]]  # round, value


def best_on_validation(rounds: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first of the records with the highest validation Dice; None if no round has one."""
    validated = [record for record in rounds if record["val_dice"] is not None]
    return max(validated, key=lambda record: record["val_dice"], default=None)


def mean_train_loss(rounds: list[dict[str, Any]]) -> Points:
    """The mean over the hospitals that trained, for each round in which one did."""
    points = []
    for record in rounds:
        losses = [hospital["train_loss"] for hospital in record["hospitals"].values() if "train_loss" in hospital]
        if losses:
            points.append((record["round"], sum(losses) / len(losses)))
    return points
