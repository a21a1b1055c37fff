"""Signals that a test sends to its own process, which must not end with it when something else goes wrong."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 120.0  # seconds: only a test that fails waits so long


@contextmanager
def harmless(*numbers: int) -> Iterator[None]:
    """Signals that nobody has taken for himself do nothing."""
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stopped_when(true: Callable[[], object]) -> Iterator[None]:
    """Send SIGTERM to this process as soon as `true()` is, or will never be: what follows in the test tells which."""
    over = threading.Event()

    def stop() -> None:
        waited = 0.0
        while not over.wait(0.02) and not true() and waited < PATIENCE:
            waited += 0.02
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    with harmless(signal.SIGTERM):
        thread = threading.Thread(target=stop)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
