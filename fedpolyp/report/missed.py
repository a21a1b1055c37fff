"""What each arm misses: held-out lesions that it does not find, and predicted regions that are not a lesion."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpolyp.errors import FedpolypError
from fedpolyp.experiment.findings import Analysis
from fedpolyp.inference.detection import detect


@dataclass(frozen=True)
class Missed:
    """The misses of one arm, after the last round; the mean over its models."""

    arm: str
    lesions: int  # in the held-out images
    missed: float  # lesions that no predicted one overlaps with an IoU of a half
    overlooked: float  # images with a lesion in which the model predicts none of its pixels
    false: float  # predicted regions that are not a lesion


def missed(analysis: Analysis) -> tuple[Missed, ...]:
    """Count, at the size of the model; arms without predictions are left out, and all if the images are gone."""
    if analysis.store is None or not analysis.partition.heldout:
        return ()
    _, truths = analysis.partition.heldout_of(analysis.store)
    found = []
    for arm in analysis.arms:
        try:
            models = [masks for run in arm.runs for masks in run.predictions().values()]
        except (OSError, FedpolypError):
            continue
        if models and all(masks.shape == truths.shape for masks in models):
            counts = np.mean([_count(masks, truths) for masks in models], axis=0).tolist()
            found.append(Missed(arm.label, round(counts[0]), *counts[1:]))
    return tuple(found)


def _count(masks: NDArray[Any], truths: NDArray[Any]) -> tuple[int, int, int, int]:
    each = [detect(mask, truth) for mask, truth in zip(masks, truths, strict=True)]
    lesions, seen = sum(one.lesions for one in each), sum(one.found for one in each)
    overlooked = sum(bool(truth.any()) and not (mask & truth).any() for mask, truth in zip(masks, truths, strict=True))
    return lesions, lesions - seen, overlooked, sum(one.false for one in each)
