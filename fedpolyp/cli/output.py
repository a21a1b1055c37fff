"""Standard output whose reader may go away: `fedpolyp runs | head` is not a failure, and does not end a run."""

import errno
import os
import sys
from typing import Any, TextIO, cast


class Tolerant:
    """A stream that silently drops its input once nobody reads it any more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write `text` if somebody reads it; returns its length."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        """Write what is buffered if somebody reads it."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if error.errno not in (errno.EPIPE, errno.EIO):  # EIO: a closed terminal
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def tolerant(stream: TextIO) -> TextIO:
    """`stream`, tolerating a reader that goes away."""
    return cast(TextIO, Tolerant(stream))


def tolerate_readers_that_go_away() -> None:
    """Make both of this process's streams tolerant."""
    sys.stdout, sys.stderr = tolerant(sys.stdout), tolerant(sys.stderr)
