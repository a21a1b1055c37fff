"""Which hospitals are absent from a round of a simulation, by simulated time and drawn from the seed."""

from collections.abc import Sequence

import numpy as np

from fedpolyp.config import Config
from fedpolyp.data.partition.partition import Partition

_DROPPING = 97  # its own stream of random numbers


def absent(config: Config, partition: Partition, hospitals: Sequence[str], number: int) -> dict[str, str]:
    """Those of the round's `hospitals` whose reply does not come or comes too late, and why.

    The time of a training is its number of steps, times the hospital's factor in `federation.slow`. The deadline is
    `federation.deadline` times the round's median without slowness. A hospital that would be too late is not asked,
    because its reply would never be used.
    """
    settings, missing = config.federation, dict[str, str]()
    draws = np.random.default_rng([config.seed, _DROPPING, number]).random(len(hospitals))
    for name, draw in zip(hospitals, draws, strict=True):
        if draw < settings.drop_rate:
            missing[name] = "it dropped out (simulated)"
    if settings.deadline is not None:
        slow = settings.slowness
        steps = {name: config.training.steps(len(partition.hospitals[name].train)) for name in hospitals}
        median = float(np.median(list(steps.values())))
        for name, taken in steps.items():
            time = taken * slow.get(name, 1.0) / median
            if time > settings.deadline:
                late = f"it takes {time:.3g} times the median, over the deadline of {settings.deadline:g} (simulated)"
                missing.setdefault(name, late)
    return missing
