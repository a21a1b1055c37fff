"""FedNova: averages updates for each step, so that hospitals with more steps do not pull the mean to their own optimum.

J. Wang et al., Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization, NeurIPS 2020.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fedpolyp.aggregation.aggregate import Aggregate, Combined, Update
from fedpolyp.algorithms.base import MODEL
from fedpolyp.model.arrays import is_statistic


@dataclass
class PerStep:
    """The mean of the hospitals' updates for each step, times the mean of their numbers of steps.

    This is the paper's equation 6 with plain steps, where the normalizer a_i is their number. It applies to trainable
    arrays only: moving statistics and optimizer states are not sums of steps.
    """

    mean: Callable[[], Aggregate]
    aggregate: Aggregate = field(init=False)
    steps: float = 0.0
    weight: float = 0.0

    def __post_init__(self) -> None:
        self.aggregate = self.mean()

    def add(self, update: Update) -> None:
        """Include `update`."""
        model = {
            name: change if is_statistic(name) else change / change.dtype.type(update.steps)
            for name, change in update.changes[MODEL].items()
        }
        self.aggregate.add(replace(update, changes={**update.changes, MODEL: model}))
        self.steps += update.weight * update.steps
        self.weight += update.weight

    def result(self) -> Combined:
        """The mean."""
        combined = self.aggregate.result()
        steps = self.steps / self.weight
        model = {
            name: change if is_statistic(name) else change * steps for name, change in combined.changes[MODEL].items()
        }
        return Combined({**combined.changes, MODEL: model}, combined.hospitals)
