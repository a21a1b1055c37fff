"""The signals that stop a command: Ctrl-C, SIGTERM (the end of a job on a cluster), and SIGHUP (a closed terminal)."""

import signal

_ending = False


def numbers() -> list[signal.Signals]:
    """The signals; without SIGHUP if it is ignored, as under nohup."""
    hangup = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hangup]


def hear() -> None:
    """Make each raise KeyboardInterrupt in the main thread, until the command is ending."""
    for number in numbers():
        if number != signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:  # a shell's background job ignores it
            signal.signal(number, _interrupt)


def ending() -> None:
    """The command is ending and says why: further signals change nothing."""
    global _ending
    _ending = True


def ignore() -> None:
    """Ignore all of them: while Python ends, an unhandled one would kill the process, whatever its exit code."""
    for number in numbers():
        signal.signal(number, signal.SIG_IGN)


def _interrupt(*_: object) -> None:
    if not _ending:
        raise KeyboardInterrupt
