"""How many images each hospital has, for what it says of them decides how much it weighs in every mean."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fedpolyp.algorithms.pooled import POOLED
from fedpolyp.data.partition.partition import Partition

if TYPE_CHECKING:
    from fedpolyp.rounds.experiment import Experiment

SETS = ("train", "val", "test")
# Where a site's number was not registered: the most that is taken from it, and how many times the median of its round.
MOST, MOST_TIMES_MEDIAN = 100_000, 100
_ENOUGH = 3  # replies whose median says something
# In a hospital's entry in rounds.jsonl; units are what it declares where it promises privacy.
_FIELDS = {"train": "images", "val": "val_images", "test": "test_images", "units": "units"}


@dataclass
class ImageCounts:
    """The numbers of images, as far as they are known.

    In a simulation the partition has them. A real site tells its own, which stays what it was first in a run; in all
    its sets together it cannot have more than were registered for it in coordinator.toml.
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
        """Those of real sites, as the records of earlier `rounds` have them."""
        counts = cls(registered=registered)
        for record in rounds:
            for name, own in record["hospitals"].items():
                for part, entry in _FIELDS.items():
                    if entry in own:
                        counts.known.setdefault((name, part), own[entry])
        return counts

    def fault(self, hospital: str, part: str, images: int) -> str | None:
        """Why `hospital` cannot have so many `images` in its set `part`; None when it can."""
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
        """Of hospitals that replied together with so many `images`, those whose number nothing vouches for; and why.

        One must not own the mean by a number that it made up: 100 times the median takes a registration.
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
        """Keep what `hospital` said: it has to say so again."""
        self.known.setdefault((hospital, part), images)


def _called(part: str) -> str:
    return part if part == "units" else f"{part} images"


_REGISTER = "if the site really has so many, write the number into coordinator.toml, under [images]"
