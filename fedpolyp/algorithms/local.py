"""Local training: every hospital for itself, as without a federation."""

from collections.abc import Mapping, Sequence

from fedpolyp.aggregation.aggregate import Aggregate, Update
from fedpolyp.aggregation.collecting import Collecting
from fedpolyp.algorithms.base import MODEL, OPTIMIZER, Algorithm, Groups, Start, marked
from fedpolyp.model.arrays import Arrays


class Local(Algorithm):
    """A separate model for each hospital; the optimizer continues from round to round."""

    federated = False
    whole = True

    def begin(self, start: Start) -> Groups:
        """See `Algorithm`."""
        each = {MODEL: start.model, OPTIMIZER: start.optimizer}
        return {marked(group, hospital): arrays for hospital in self.hospitals for group, arrays in each.items()}

    def ask(self, state: Groups, hospital: str) -> Groups:
        """See `Algorithm`."""
        return {group: state[marked(group, hospital)] for group in (MODEL, OPTIMIZER)}

    def aggregate(self) -> Aggregate:
        """See `Algorithm`."""
        return Collecting(_by_hospital)

    def model_of(self, hospital: str) -> str:
        """See `Algorithm`."""
        return hospital


def _by_hospital(updates: Sequence[Update]) -> Mapping[str, Arrays]:
    return {marked(group, update.hospital): own for update in updates for group, own in update.changes.items()}
