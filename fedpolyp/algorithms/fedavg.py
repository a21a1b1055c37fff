"""FedAvg: B. McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, 2017."""

from fedpolyp.algorithms.base import Algorithm


class FedAvg(Algorithm):
    """Each hospital trains the model that it was sent; the next model is the mean of theirs, weighted by images.

    That is all that `Algorithm` does by itself.
    """
