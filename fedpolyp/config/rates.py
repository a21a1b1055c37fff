"""The learning rate where the config leaves it open.

A rate that suits a single model is too small for models that are averaged. The rates of Adam and Muon were chosen on
validation: docs/results.md. That of SGD was not measured.
"""

from fedpolyp.config.config import Config

_ONE_MODEL = ("pooled", "local", "cyclic")
# By optimizer: for models that are averaged each round, and for a single model.
_RATES = {"muon": (0.03, 0.01), "adam": (3e-3, 1e-3), "adamw": (3e-3, 1e-3), "sgd": (0.03, 0.03)}
_WITH_ENCODER = {"adam": 3e-3, "adamw": 3e-3}  # for both kinds, with a pretrained encoder


def rate_of(config: Config) -> float:
    """The learning rate of the first round, in (0, 1]: the config's, or the one for its optimizer, encoder and arm."""
    given, optimizer = config.training.learning_rate, config.training.optimizer
    if given is not None:
        return given
    if config.model.encoder != "plain" and optimizer in _WITH_ENCODER:
        return _WITH_ENCODER[optimizer]
    return _RATES[optimizer][config.algorithm.name in _ONE_MODEL]


def rated(config: Config) -> Config:
    """`config` with its learning rate written out, so that the run records it."""
    training = config.training.model_copy(update={"learning_rate": rate_of(config)})
    return config.model_copy(update={"training": training})
