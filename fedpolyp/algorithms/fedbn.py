"""FedBN: X. Li et al., Federated Learning on Non-IID Features via Local Batch Normalization, ICLR 2021."""

from typing import TYPE_CHECKING

from fedpolyp.algorithms.base import MODEL, Algorithm, Groups, Outcome, Visit
from fedpolyp.model.arrays import Arrays
from fedpolyp.section import Section

if TYPE_CHECKING:
    from fedpolyp.config import Config

OWN = "normalization"


class FedBN(Algorithm):
    """Every array of a batch normalization stays at its hospital, which continues with the arrays of its last training.

    A hospital's images are scored with its own arrays. The held-out images belong to no hospital, so they are scored
    with the mean of all hospitals' arrays; for this mean the arrays are sent. Hospitals that have not trained yet also
    use it.
    """

    keeps_state = True

    def train(self, visit: Visit) -> Outcome:
        """See `Algorithm`."""
        trained = visit.train(self.own_model(visit.received[MODEL], visit.kept))
        return Outcome(trained, {MODEL: trained.arrays}, {OWN: normalization(trained.arrays)})

    def own_model(self, received: Arrays, kept: Groups) -> Arrays:
        """See `Algorithm`."""
        return received | dict(kept.get(OWN, {}))

    @classmethod
    def refuse(cls, config: "Config", settings: Section) -> str:
        """See `Algorithm`."""
        if config.model.encoder == "plain" and config.model.normalization != "batch":
            return (
                "the algorithm fedbn keeps batch normalization at the hospital: model.normalization must be batch; got "
                f"'{config.model.normalization}'"
            )
        if config.federation.per_step:
            return (
                "the algorithm fedbn cannot average for each step (--per-step): a hospital's batch normalization "
                "continues from its own arrays, so its difference from what was sent is not a sum of the round's steps"
            )
        return ""


def normalization(arrays: Arrays) -> Arrays:
    """The arrays of layers that have a moving mean: scale, shift, mean and variance."""
    layers = {name.removesuffix("/moving_mean") for name in arrays if name.endswith("/moving_mean")}
    return {name: array for name, array in arrays.items() if name.rpartition("/")[0] in layers}
