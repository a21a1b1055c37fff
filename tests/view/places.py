"""Run folders for the page: made in milliseconds, of images that nobody needs; and a model that takes red for polyp."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpolyp import runs
from fedpolyp.config import load
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.runs import RoundRecord, RunFolder

HOSPITALS = ("bergen", "oslo")


def begin(path: Path, rounds: int = 4, hospitals: Sequence[str] = HOSPITALS, **settings: Any) -> RunFolder:
    """A run that has not begun."""
    chosen = {"federation.rounds": rounds, "hospitals.count": len(hospitals), "data.image_size": 32}
    chosen |= {name.replace("__", "."): value for name, value in settings.items()}
    own = {name: HospitalImages((f"{name}-1", f"{name}-2"), (f"{name}-3",), (f"{name}-4",)) for name in hospitals}
    return runs.create(path, load(overrides=chosen), Partition(("held-1", "held-2"), own))


def carry(run: RunFolder, until: int, since: int = 0, **more: Any) -> None:
    """Write the records of rounds `since` to `until`; `more` is of the last."""
    names = sorted(run.partition().hospitals)
    for number in range(since, until + 1):
        dice = 0.2 + 0.1 * number
        record = RoundRecord(number, {"dice": dice, "iou": dice / 2, "loss": 1 - dice}, dice - 0.05)
        for place, name in enumerate(names):
            record.hospital(name)["val_dice"] = dice - 0.05 * place
            if number:
                record.hospital(name).update(images=2, train_loss=1.5 - dice + 0.1 * place)
        run.append_round(record.to_plain() | {"seconds": 10.0} | (more if number == until else {}))


def end(run: RunFolder, models: Sequence[str] = ("model-last", "model-best")) -> None:
    """Leave what a run leaves at its end, as empty files."""
    for name in ("images.csv", "curves.png", *(f"{model}.keras" for model in models)):
        (run.path / name).touch()


class Red:
    """Takes a pixel for polyp as far as it is red, and nothing else; `asked` holds the images that it was shown."""

    threshold = 0.5

    def __init__(self) -> None:
        self.asked: list[NDArray[np.uint8]] = []

    def at_own_size(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        self.asked += images
        return [(image[..., 0] / 255).astype(np.float32) for image in images]
