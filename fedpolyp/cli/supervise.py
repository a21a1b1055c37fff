"""Keeps Flower's programs running: none is left behind, and the end of one is noticed."""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fedpolyp import interrupts
from fedpolyp.cli.flower import Command
from fedpolyp.errors import FedpolypError
from fedpolyp.process_tree import descendants, is_alive
from fedpolyp.text import printable

_PAUSE, _GRACE = 10.0, 10.0
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # of Flower's own log


def serve_until_stopped(
    commands: Sequence[Command], meanwhile: Callable[[Sequence["subprocess.Popen[bytes]"]], Any] = lambda running: None
) -> None:
    """Run all of `commands` until SIGINT or SIGTERM; when one ends unexpectedly, end the others.

    `meanwhile` is called with their processes twice a second.

    Raises:
        FedpolypError: one has ended unexpectedly.
    """
    with stop_signal() as stop:
        running: list[subprocess.Popen[bytes]] = []
        try:
            for command in commands:
                running.append(_start(command))
            while not stop.is_set():
                for command, process in zip(commands, running, strict=True):
                    if process.poll() is not None:
                        raise FedpolypError(f"{command.arguments[0]} has ended (exit code {process.returncode})")
                meanwhile(running)
                stop.wait(0.5)
        finally:
            for process in running:
                _end(process)


def keep_running(
    command: Command,
    faults: Callable[[], Sequence[str]],
    say: Callable[[str], Any],
    heed: Callable[[str], Any] = lambda line: None,
) -> None:
    """Run `command` until SIGINT or SIGTERM, and again whenever it ends; `heed` is called with every line that it
    prints.

    `faults` returns temporary problems. They never make it give up: a coordinator may be away for days, or register a
    site days after it was asked to. For lasting problems `faults` raises an error.

    Raises:
        FedpolypError: what `faults` raises, or there is no such program.
    """
    with stop_signal() as stop:
        while not stop.is_set():
            why = "; ".join(faults()) or _run_once(command, stop, heed)
            if not stop.is_set():
                say(f"{why}; trying again in {_PAUSE:.0f} s")
                stop.wait(_PAUSE)


def _run_once(command: Command, stop: threading.Event, heed: Callable[[str], Any]) -> str:
    """Run it until it ends or prints one of its last words; returns why it ended."""
    process, heard = _start(command, subprocess.PIPE), set[str]()
    reader = threading.Thread(target=_pass_on, args=(process, command, heard, heed), daemon=True)
    reader.start()
    try:
        while process.poll() is None and not stop.is_set() and heard.isdisjoint(command.last_words):
            stop.wait(0.5)
    finally:
        _end(process)
        reader.join(1)
    if not heard.isdisjoint(command.last_words):
        return "the connection to the coordinator broke"
    if command.first_words in heard:
        return "the SuperNode has ended"
    if command.refused_words in heard:
        return (
            "the coordinator does not let this site in: its key is not registered, or the coordinator has not yet "
            "noticed that an earlier start of this site has ended"
        )
    return "the SuperNode has ended before it was let in, and printed why"


def _pass_on(process: "subprocess.Popen[bytes]", command: Command, heard: set[str], heed: Callable[[str], Any]) -> None:
    """Print its output, and pass it to `heed`; the command's words in it are added to `heard`."""
    assert process.stdout is not None
    known = (command.first_words, command.refused_words, *command.last_words)
    for line in process.stdout:
        text = line.decode(errors="replace")
        shown = printable(_COLOUR.sub("", text.rstrip("\r\n")))  # a coordinator may have sent some of it
        sys.stdout.buffer.write(f"{shown}\n".encode())
        sys.stdout.flush()
        heard |= {words for words in known if words.encode() in line}
        heed(text)


def _start(command: Command, output: int | None = None) -> "subprocess.Popen[bytes]":
    if sys.platform != "linux":
        raise FedpolypError(f"real sites need Linux; this is {sys.platform}")
    errors = None if output is None else subprocess.STDOUT
    # If this process is killed, the kernel ends what it started. Ctrl-C on the terminal is only for this process.
    return command.start(stdout=output, stderr=errors, preexec_fn=_prepare, start_new_session=True)


def _prepare() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # Flower's programs end on SIGINT, which a shell makes its background processes ignore.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End `process` and everything that it has started; some of it would outlive it in its own sessions."""
    everything = descendants(process.pid) | {process.pid}
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    for number, kind in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, _GRACE)):
        deadline = time.monotonic() + kind
        for known in everything:
            with contextlib.suppress(ProcessLookupError):
                os.kill(known, number)
        while everything and time.monotonic() < deadline:
            process.poll()
            everything = {known for known in everything if is_alive(known)}
            time.sleep(0.1)


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, instead of interrupting the running code."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in interrupts.numbers()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
