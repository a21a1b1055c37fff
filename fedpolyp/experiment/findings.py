"""What a comparison has found: arms, differences, and all else that its report tells."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedpolyp.config import AlgorithmConfig, Config
from fedpolyp.data.partition.composition import Composition
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import Store
from fedpolyp.experiment.scores import LAST, OWN
from fedpolyp.experiment.statistics import SEEDS_NEEDED, Estimate
from fedpolyp.runs import RunFolder

POOLED, LOCAL = "pooled", "local"

# Near the quartiles of Kvasir-SEG's lesion areas (0.06, 0.11, 0.21 of the image), and fixed: reports can be compared.
SIZE_BOUNDS = (0.05, 0.20)
SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class Curve:
    """The course of one run, with a value for each round from 0."""

    seed: int
    rounds: tuple[int, ...]
    images: tuple[int, ...]  # training images seen since the start, repeats counted
    dice: tuple[float, ...]  # held-out
    hospitals: Mapping[str, tuple[tuple[int, float], ...]]  # each hospital's (round, Dice on its validation images)
    unseen: Mapping[str, tuple[tuple[int, float], ...]]  # each unseen source's (round, Dice)


@dataclass(frozen=True)
class Cost:
    """The cost of one run of an arm, the mean over its seeds.

    Seconds are not included: runs without a federation share the cores, while a federated run has them alone.
    """

    rounds: float
    images: float  # training images seen, repeats counted, at all hospitals together
    steps: float | None  # gradient steps, at all hospitals together; None if they were not recorded
    bytes_up: float  # sent by a hospital, mean over hospitals
    bytes_down: float  # received by a hospital, mean over hospitals


def worst(scores: Mapping[str, Estimate]) -> tuple[str, float] | None:
    """The hospital with the lowest Dice, and that Dice; None without hospitals."""
    return min(((name, score.value) for name, score in scores.items()), key=lambda item: item[1], default=None)


def spread(scores: Mapping[str, Estimate]) -> float:
    """The highest minus the lowest Dice of at least one hospital."""
    values = [score.value for score in scores.values()]
    return max(values) - min(values)


@dataclass(frozen=True)
class Arm:
    """One arm, over its seeds."""

    label: str  # its algorithm's name, unless it was given another
    algorithm: AlgorithmConfig
    own_models: bool  # whether each hospital has its own model, as in local training
    runs: tuple[RunFolder, ...]
    seeds: tuple[int, ...]
    last: Mapping[str, Estimate]  # by metric: on the held-out set, after the last round
    best: Mapping[str, Estimate]  # in the round best on validation; empty without validation
    best_rounds: tuple[int, ...]  # these rounds, ascending
    over_pixels: Mapping[str, float]  # Dice of all held-out pixels together, by model: last, and best with validation
    own_tests: Mapping[str, Estimate]  # Dice on each hospital's own test images, last round; by its own model, if any
    finetuned: Mapping[str, Estimate]  # the same, by each hospital's fine-tuned model; empty if there are none
    unseen: Mapping[str, Estimate]  # Dice on each source that no hospital has, last round
    without_polyp: Mapping[str, float]  # see metrics.without_polyp: held-out images, last round; empty for none
    by_size: tuple[Estimate | None, ...]  # held-out Dice of small, medium, large lesions; None if there are none
    cost: Cost
    curves: tuple[Curve, ...]

    @property
    def federated(self) -> bool:
        """Whether it is a federated arm, not pooled or local."""
        return self.algorithm.name not in (POOLED, LOCAL)

    @property
    def tests(self) -> dict[str, Mapping[str, Estimate]]:
        """Dice on each hospital's own test images, by kind of model: 'last', and 'own' for fine-tuned ones."""
        return {kind: scores for kind, scores in ((LAST, self.own_tests), (OWN, self.finetuned)) if scores}


@dataclass(frozen=True)
class Difference:
    """The held-out Dice of one arm minus that of another, on the same images and seeds."""

    arm: str
    other: str
    seeds: tuple[int, ...]  # those that both arms have
    last: Estimate
    best: Estimate | None  # None without validation
    p: float  # of no difference, last round
    p_adjusted: float  # by Holm, over all differences of the report with the same `among`
    among: bool  # whether both arms are federated

    @property
    def of_methods(self) -> bool:
        """Whether there are enough seeds to compare methods; otherwise the difference is between these models."""
        return len(self.seeds) >= SEEDS_NEEDED

    @property
    def claimed(self) -> bool:
        """Whether it is statistically significant: the interval excludes 0 and the adjusted p is below 0.05."""
        return self.last.excludes_zero and self.p_adjusted < 0.05


@dataclass(frozen=True)
class SiteRow:
    """The mean Dice of one model, in the last round, on every test set and the held-out set."""

    arm: str
    hospital: str  # whose own model it is; '' if the arm has one model for all
    dice: Mapping[str, float]  # by set


@dataclass(frozen=True)
class Analysis:
    """The contents of a report."""

    config: Config  # of the first run
    partition: Partition
    store: Store | None  # None when the images are gone
    arms: tuple[Arm, ...]
    differences: tuple[Difference, ...]
    sites: tuple[SiteRow, ...]
    size_counts: tuple[int, ...]  # held-out images with small, medium, large lesions
    test_mix: Mapping[str, tuple[int, ...]]  # by hospital: its test images without, with small, medium, large lesions
    composition: Composition | None  # what hospitals hold; None if the images are gone, or only the sites know them
    groups: int  # duplicate groups in the held-out set
    missing: tuple[str, ...]  # a sentence for each thing that is missing from a whole comparison
    unequal: tuple[str, ...]  # settings other than algorithm, rounds and seed that differ between runs

    @property
    def seeds(self) -> int:
        """The smallest number of seeds in an arm or a difference."""
        return min(map(len, [*(arm.seeds for arm in self.arms), *(found.seeds for found in self.differences)]))

    @property
    def of_methods(self) -> bool:
        """Whether there are enough seeds to compare methods; otherwise the page is about these models."""
        return self.seeds >= SEEDS_NEEDED

    @property
    def budgets_differ(self) -> bool:
        """Whether the arms saw different numbers of training images."""
        seen = [arm.cost.images for arm in self.arms]
        return max(seen) > 1.01 * min(seen)


def size_places(areas: NDArray[np.float64]) -> NDArray[np.intp]:
    """A place in `SIZES` for each area of a lesion, a fraction of the image; both bounds are medium."""
    return np.asarray((areas >= SIZE_BOUNDS[0]).astype(np.intp) + (areas > SIZE_BOUNDS[1]))
