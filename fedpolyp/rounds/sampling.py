"""Which hospitals take part in a round."""

import numpy as np

from fedpolyp.config import Config

_SAMPLING = 71  # a stream of random numbers of its own


def sample(everyone: list[str], config: Config, number: int) -> list[str]:
    """The hospitals of round `number`, by name: `federation.fraction` of them, drawn without replacement."""
    size = max(1, round(config.federation.fraction * len(everyone)))
    rng = np.random.default_rng([config.seed, _SAMPLING, number])
    return [everyone[position] for position in sorted(rng.choice(len(everyone), size, replace=False))]
