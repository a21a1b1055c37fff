"""The ways a command can end badly, each with one clear sentence for the person who typed it."""


class FedpolypError(Exception):
    """Something failed while the input was fine; the command ends with exit code 1."""


class UsageError(FedpolypError):
    """The input was wrong: the message says what was received and what is allowed; exit code 2."""


class FinalError(FedpolypError):
    """The same command would fail again in the same way: none is advised that goes on."""


class Interrupted(FedpolypError):
    """Somebody asked the run to stop."""


class Refusal(ValueError):
    """A request that a site does not carry out; the reason names nothing of the site and may be sent."""
