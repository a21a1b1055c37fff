"""Checks how many images each hospital has, because it decides the hospital's weight in every mean."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fedpolyp.algorithms.pooled import POOLED
from fedpolyp.data.partition.partition import Partition

if TYPE_CHECKING:
    from fedpolyp.rounds.experiment import Experiment

SETS = ("train", "val", "test")
# For a site whose number is not registered: the largest accepted number, absolute and relative to its round's median.
MOST, MOST_TIMES_MEDIAN = 100_000, 100
_ENOUGH = 3  # fewest replies for a meaningful median
# In a hospital's entry in rounds.jsonl; units are what it declares with privacy on.
_FIELDS = {"train": "images", "val": "val_images", "test": "test_images", "units": "units"}
_REGISTER = "if the site really has so many, write the number into coordinator.toml, under [images]"


@dataclass
class ImageCounts:
    """The numbers of images, as far as they are known.

    In a simulation the partition has them. A real site reports its own number, which must stay the same during a run.
    If coordinator.toml registers a number for the site, all of its sets together cannot have more.
    """

    known: dict[tuple[str, str], int] = field(default_factory=dict)  # by hospital and set
    registered: Mapping[str, int] = field(default_factory=dict)  # by site, in all sets together
    simulated: bool = False

    @classmethod
    def in_run(cls, experiment: "Experiment") -> "ImageCounts":
        """Those of a run."""
        if experiment.name_at_sites:
            return cls.at_sites(experiment.run.rounds(), experiment.registered)
        return cls.of(experiment.partition)

    @classmethod
    def of(cls, partition: Partition) -> "ImageCounts":
        """Those of a simulation."""
        known = {(name, part): len(getattr(own, part)) for name, own in partition.hospitals.items() for part in SETS}
        everything = sum(len(own.train) for own in partition.hospitals.values())
        return cls(known | {(POOLED, "train"): everything}, simulated=True)

    @classmethod
    def at_sites(cls, rounds: Iterable[Mapping[str, Any]], registered: Mapping[str, int]) -> "ImageCounts":
        """Those of real sites, from the records of earlier `rounds`."""
        counts = cls(registered=registered)
        for record in rounds:
            for name, own in record["hospitals"].items():
                for part, entry in _FIELDS.items():
                    if entry in own:
                        counts.known.setdefault((name, part), own[entry])
        return counts

    def fault(self, hospital: str, part: str, images: int) -> str | None:
        """Why `hospital` cannot have so many `images` in its set `part`; None if it can."""
        known = self.known.get((hospital, part))
        if known is not None:
            if images == known:
                return None
            return f"it reports {images} {_called(part)}, and has {known}"
        others = sum(self.known.get((hospital, other), 0) for other in SETS)
        most = self.registered.get(hospital)
        if most is None and images > MOST:
            return f"it reports {images} {_called(part)}, more than {MOST}; {_REGISTER}"
        if most is not None and images + others > most:
            return f"it reports {images} {_called(part)}, {images + others} with its other sets, of {most} registered"
        return None

    def outsized(self, part: str, images: Mapping[str, int]) -> dict[str, str]:
        """The hospitals whose number of `images` is far beyond the others' and not registered; and why.

        A hospital must not dominate the mean with an invented number: more than 100 times the median needs a
        registration.
        """
        if self.simulated or len(images) < _ENOUGH:
            return {}
        median = float(np.median(list(images.values())))
        return {
            name: f"it reports {count} {_called(part)}, over {MOST_TIMES_MEDIAN} times the median; {_REGISTER}"
            for name, count in images.items()
            if name not in self.registered and count > MOST_TIMES_MEDIAN * median > 0
        }

    def learn(self, hospital: str, part: str, images: int) -> None:
        """Remember the number that `hospital` reported: it must report the same again."""
        self.known.setdefault((hospital, part), images)


def _called(part: str) -> str:
    return part if part == "units" else f"{part} images"
