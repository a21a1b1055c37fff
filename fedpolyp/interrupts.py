"""What stops a command: Ctrl-C, SIGTERM (a job's end on a cluster), and SIGHUP (its terminal has gone)."""

import signal

_ending = False


def numbers() -> list[signal.Signals]:
    """The signals; not SIGHUP where it is ignored, as under nohup."""
    hangup = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, *hangup]


def hear() -> None:
    """Have each raise KeyboardInterrupt in the main thread, until the command is ending."""
    for number in numbers():
        if number != signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:  # as a shell's background has it
            signal.signal(number, _interrupt)


def ending() -> None:
    """The command is ending and says why: another signal changes nothing any more."""
    global _ending
    _ending = True


def ignore() -> None:
    """Be deaf to all: while Python ends, one that it heard no more would kill the process, whatever its exit code."""
    for number in numbers():
        signal.signal(number, signal.SIG_IGN)


def _interrupt(*_: object) -> None:
    if not _ending:
        raise KeyboardInterrupt
