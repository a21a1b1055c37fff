"""The record of a round while it is collected."""

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class RoundRecord:
    """The contents of one round's line in rounds.jsonl, while they are collected."""

    round: int
    scores: dict[str, float] = field(default_factory=dict)
    val_dice: float | None = None
    hospitals: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: list[dict[str, str]] = field(default_factory=list)
    without_polyp: dict[str, float] = field(default_factory=dict)  # see metrics.without_polyp: of the held-out images
    unseen: dict[str, float] = field(default_factory=dict)  # mean Dice on sources that no hospital has
    steps: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    lost: str = ""  # why the round had no result
    stopped: str = ""  # why the run ends early with this round
    began: float = field(default_factory=time.monotonic)

    def start_again(self) -> None:
        """Forget what hospitals sent, but not what was refused."""
        self.hospitals.clear()
        self.steps = 0

    def lose(self, why: str) -> None:
        """Note that nothing came of the round; what privacy it has cost stays."""
        spent = {name: own["epsilon"] for name, own in self.hospitals.items() if own.get("epsilon") is not None}
        self.start_again()
        self.hospitals.update({name: {"epsilon": epsilon} for name, epsilon in spent.items()})
        self.lost = why

    def hospital(self, name: str) -> dict[str, Any]:
        """The entry of one hospital, made when it is first needed."""
        return self.hospitals.setdefault(name, {})

    def to_plain(self) -> dict[str, Any]:
        """The line of rounds.jsonl."""
        return {
            "round": self.round,
            "dice": self.scores["dice"],
            "iou": self.scores["iou"],
            "val_dice": self.val_dice,
            "loss": self.scores["loss"],
            "seconds": round(time.monotonic() - self.began, 3),
            "steps": self.steps,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "hospitals": self.hospitals,
            "refused": self.refused,
            **({"without_polyp": self.without_polyp} if self.without_polyp else {}),
            **({"unseen": self.unseen} if self.unseen else {}),
            **({"lost": self.lost} if self.lost else {}),
            **({"stopped": self.stopped} if self.stopped else {}),
        }
