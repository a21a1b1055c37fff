"""The ways in which a command can fail, each with one clear sentence for the user."""


def to_install(extra: str) -> str:
    """The end of a message: the command that installs what the `extra` of the package needs."""
    return f"pip install --editable '.[{extra}]' in the checkout of fedpolyp"


class FedpolypError(Exception):
    """Something failed while the input was fine; the command ends with exit code 1."""


class UsageError(FedpolypError):
    """The input was wrong: the message says what was received and what is allowed; exit code 2."""


class FinalError(FedpolypError):
    """The same command would fail again in the same way, so no command is suggested."""


class Interrupted(FedpolypError):
    """The run was asked to stop."""


class Refusal(ValueError):
    """A request that a site refuses; the reason contains no names of the site and may be sent."""
