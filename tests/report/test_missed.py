"""What arms miss."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from fedpolyp.errors import FedpolypError
from fedpolyp.report.missed import Missed, missed


def _square(*corners: int) -> np.ndarray:
    mask = np.zeros((16, 16), np.uint8)
    for at in corners:
        mask[at : at + 4, at : at + 4] = 1
    return mask


def _analysis(truths: np.ndarray, **arms: list[Any]) -> Any:
    def run(masks: Any) -> Any:
        def predictions() -> dict[str, np.ndarray]:
            if masks is None:
                raise FedpolypError("damaged")
            return {"last": masks}

        return SimpleNamespace(predictions=predictions)

    partition = SimpleNamespace(heldout=("a", "b"), heldout_of=lambda store: (None, truths))
    made = [SimpleNamespace(label=label, runs=[run(masks) for masks in runs]) for label, runs in arms.items()]
    return SimpleNamespace(store=object(), partition=partition, arms=made)


def test_lesions_that_are_missed_overlooked_or_not_there_are_counted_and_averaged_over_models() -> None:
    truths = np.stack([_square(1, 9), _square(4)])
    half = np.stack([_square(1, 12), np.zeros((16, 16), np.uint8)])  # finds one, touches one, overlooks one
    analysis = _analysis(truths, fedavg=[truths, half], pooled=[truths])
    assert missed(analysis) == (Missed("fedavg", 3, 1.0, 0.5, 0.5), Missed("pooled", 3, 0.0, 0.0, 0.0))


def test_an_arm_whose_predictions_cannot_be_used_is_left_out() -> None:
    truths = np.stack([_square(1), _square(4)])
    other = np.zeros((2, 8, 8), np.uint8)
    found = missed(_analysis(truths, fedavg=[truths], pooled=[None], local=[other]))
    assert [one.arm for one in found] == ["fedavg"]
