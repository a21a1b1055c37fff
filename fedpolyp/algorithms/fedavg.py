"""FedAvg: B. McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, 2017."""

from fedpolyp.algorithms.base import Algorithm


class FedAvg(Algorithm):
    """Each hospital trains the model it was sent; the next model is the mean of theirs, weighted by images.

    `Algorithm` itself does all of this.
    """
