"""A training that diverged: what to change, and why resuming cannot help."""

from fedpolyp.config import Config, rate_of
from fedpolyp.errors import FinalError


class Diverged(FinalError):
    """Losses or weights are no longer finite; resuming would compute the same again."""


def diverged(what: str, config: Config) -> Diverged:
    """The failure with the observation `what` and the likely causes in `config`."""
    causes = [f"a learning rate that is too high (it was {rate_of(config):g})"]
    if config.model.normalization == "none":
        causes.append("training without normalization (--normalization batch or group)")
    return Diverged(
        f"{what}; the likely cause is {', or '.join(causes)}. Resuming this run would compute the same again: start a "
        "new run with other settings"
    )
