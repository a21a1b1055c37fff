"""A site's worker: keeps TensorFlow and the traced U-Net, because Flower starts a process for every message to a site.

The first message starts the worker, from the code that Flower was sent with that message. Its address and secret are in
a file that only the site's user can read. The worker lives as long as that file is its own, and as `fedpolyp site
join`. It serves one experiment's config: TensorFlow sets its threads once for a process, and never frees a traced
graph.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pickle
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.site import is_site, settings_of
from fedpolyp.files import parse_json, read_bytes
from fedpolyp.imports import kept
from fedpolyp.process_tree import is_alive

if TYPE_CHECKING:
    from flwr.app import RecordDict

FILE = "worker.json"  # in Flower's own folder at the site
JOINED = "FEDPOLYP_SITE_JOINED"  # the process of `fedpolyp site join`, passed on to what it starts
_CODE = Path(__file__).resolve().parents[1]
_MOST_BYTES = 4096  # of that file
_IDLE_SECONDS = 600.0
_START_SECONDS = 60.0
_GREETING_SECONDS = 10  # an idle worker takes milliseconds
# The contents of a worker's file.
_TOLD: dict[str, Callable[[Any], Any]] = {"port": int, "key": bytes.fromhex, "process": int, "purpose": str}
# The last one is raised by Python 3.11 if the other end does not speak its protocol.
_GONE = (OSError, EOFError, AuthenticationError, AssertionError)


class WorkerDied(RuntimeError):
    """The worker ended during a request, or could not be started."""


def file_of(node_config: Mapping[str, Any]) -> Path | None:
    """The path of the worker's file; None if there should be no worker."""
    if JOINED not in os.environ or not is_site(node_config):
        return None
    return settings_of(node_config).flower / FILE


def ask(file: Path, kind: str, content: "RecordDict", node_config: Mapping[str, Any]) -> "RecordDict":
    """The answer of `file`'s worker to a message; a worker is started if there is none, or it serves something else.

    Raises:
        WorkerDied: it ended before it answered.
        Exception: raised by the work.
    """
    with _reached(file, _purpose(content)) as connection:
        try:
            connection.send((kind, content, dict(node_config)))
            answer, cause = connection.recv()
        except _GONE:
            raise WorkerDied("the worker process ended in the middle of a request") from None
    if isinstance(answer, Exception):
        answer.__context__ = cause
        raise answer
    reply: RecordDict = answer
    return reply


def end(file: Path) -> None:
    """End the worker of `file`, if there is one, and wait until it has ended."""
    found = _told(file)
    file.unlink(missing_ok=True)
    deadline = time.monotonic() + 5
    while found and is_alive(found["process"]) and time.monotonic() < deadline:
        time.sleep(0.05)


def _purpose(content: "RecordDict") -> str:
    """What a worker serves: this start of the site, this code, this experiment."""
    from fedpolyp.simulation.records import plain_request

    # The code's folder has the hash of the app in its name.
    return hashlib.sha256(
        json.dumps([os.environ[JOINED], str(_CODE), str(plain_request(content).get("config"))]).encode()
    ).hexdigest()


def _reached(file: Path, purpose: str) -> "Connection[Any, Any]":
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two messages at a time start only one worker
        with contextlib.suppress(*_GONE):
            return _connected(file, purpose)
        end(file)
        with file.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "clients.worker", str(file), purpose],
                cwd=_CODE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(_CODE), *kept(sys.path)])},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it outlives the process of this message
            )
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(*_GONE):
                return _connected(file, purpose)
            time.sleep(0.02)
        raise WorkerDied("the worker process could not be started")


def _connected(file: Path, purpose: str) -> "Connection[Any, Any]":
    """A connection to the worker of `file`, if it exists, serves `purpose` and is idle."""
    found = _told(file)
    if found is None or found["purpose"] != purpose:
        raise FileNotFoundError(file)
    with socket.socket() as plain:
        # The listener may be another process by now, or busy with a request that nobody waits for.
        _limit(plain, _GREETING_SECONDS)
        plain.connect(("127.0.0.1", found["port"]))
        connection: Connection[Any, Any] = Connection(plain.dup().detach())
        try:
            for agree in (answer_challenge, deliver_challenge):
                agree(connection, found["key"])
        except BaseException:
            connection.close()
            raise
        _limit(plain, 0)
    return connection


def _limit(plain: socket.socket, seconds: int) -> None:
    """Let the kernel limit how long one send or receive may wait; 0 for no limit."""
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        plain.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, 0))


def _told(file: Path) -> dict[str, Any] | None:
    """The description that the worker of `file` wrote; None if there is no file, or a power cut left half of it."""
    try:
        found = parse_json(read_bytes(file, _MOST_BYTES))
        return {name: kind(found[name]) for name, kind in _TOLD.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def main(file: Path, purpose: str, joined: int) -> None:
    """Answer messages, one at a time, as long as `file` is this worker's, `joined` lives and messages come."""
    key = secrets.token_bytes(32)
    with Listener(("127.0.0.1", 0), authkey=key) as listener:
        told = {"port": listener.address[1], "key": key.hex(), "process": os.getpid(), "purpose": purpose}
        descriptor = os.open(part := file.with_suffix(".part"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(told, stream)
        part.replace(file)
        busy = threading.Event()
        threading.Thread(target=_end_in_time, args=(file, joined, busy), daemon=True).start()
        while True:
            with (
                contextlib.suppress(*_GONE),
                listener.accept() as connection,
            ):
                busy.set()
                connection.send(_answer(*connection.recv()))
            busy.clear()


def _answer(kind: str, content: "RecordDict", node_config: Mapping[str, Any]) -> tuple[Any, BaseException | None]:
    """The reply's content, or the exception and its cause."""
    try:
        from clients.work import WORK

        return WORK[kind](content, node_config), None
    except Exception as error:
        error.add_note(traceback.format_exc())
        try:
            return pickle.loads(pickle.dumps((error, error.__context__)))
        except Exception:
            return RuntimeError(f"{type(error).__name__}: {error}"), None


def _end_in_time(file: Path, joined: int, busy: threading.Event) -> None:
    last = time.monotonic()
    while _is_own(file) and is_alive(joined) and time.monotonic() - last < _IDLE_SECONDS:
        if busy.is_set():
            last = time.monotonic()
        time.sleep(0.1)
    if _is_own(file):
        file.unlink(missing_ok=True)
    os._exit(0)


def _is_own(file: Path) -> bool:
    found = _told(file)
    return found is not None and found["process"] == os.getpid()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(os.environ[JOINED]))
