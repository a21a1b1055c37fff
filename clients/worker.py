"""A site's worker: keeps TensorFlow and the traced U-Net, for Flower starts a process for every message to a site.

The first message starts the worker, from the very code that Flower was sent with the message. What it needs to be found
is in a file that only the site's user can read; it lives as long as that file, and as `fedpolyp site join`.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pickle
import secrets
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.site import is_site, settings_of

if TYPE_CHECKING:
    from flwr.app import RecordDict

JOINED = "FEDPOLYP_SITE_JOINED"  # the process of `fedpolyp site join`, told to what it starts
_CODE = Path(__file__).resolve().parents[1]
_IDLE_SECONDS = 600.0
_START_SECONDS = 60.0
_GONE = (OSError, EOFError, AuthenticationError)


class WorkerDied(RuntimeError):
    """The worker ended while it was at work, or could not be started."""


def file_of(node_config: Mapping[str, Any]) -> Path | None:
    """Where the worker for this code and this start of the site is to be found; None where there is to be none."""
    joined = os.environ.get(JOINED)
    if joined is None or not is_site(node_config):
        return None
    code = hashlib.sha256(str(_CODE).encode()).hexdigest()[:16]  # the folder's name holds the hash of the app
    return settings_of(node_config).flower / f"worker-{joined}-{code}.json"


def ask(file: Path, kind: str, content: "RecordDict", node_config: Mapping[str, Any]) -> "RecordDict":
    """What the worker of `file` answers to a message; one that is not there is started.

    Raises:
        WorkerDied: it ended before it had answered.
        Exception: what the work raised.
    """
    with _reached(file) as connection:
        try:
            connection.send((kind, content, dict(node_config)))
            answer, cause = connection.recv()
        except _GONE:
            raise WorkerDied("the worker process ended in the middle of an order") from None
    if isinstance(answer, Exception):
        answer.__context__ = cause
        raise answer
    reply: RecordDict = answer
    return reply


def end_all(folder: Path) -> None:
    """End the workers whose files lie in `folder`, and wait until they have ended."""
    processes = []
    for file in folder.glob("worker-*.json"):
        with contextlib.suppress(FileNotFoundError):  # one that has just ended by itself
            processes.append(int(json.loads(file.read_bytes())["process"]))
            file.unlink()
    deadline = time.monotonic() + 5
    while any(map(_lives, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)


def _reached(file: Path) -> "Connection[Any, Any]":
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two messages at a time start one worker
        with contextlib.suppress(*_GONE):
            return _connected(file)
        file.unlink(missing_ok=True)
        with file.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "clients.worker", str(file)],
                cwd=_CODE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it outlives the process of this message
            )
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if file.exists():
                with contextlib.suppress(*_GONE):
                    return _connected(file)
            time.sleep(0.02)
        raise WorkerDied("the worker process could not be started")


def _connected(file: Path) -> "Connection[Any, Any]":
    found = json.loads(file.read_bytes())
    return Client(("127.0.0.1", found["port"]), authkey=bytes.fromhex(found["key"]))


def main(file: Path, joined: int) -> None:
    """Answer messages, one at a time, for as long as `file` and the process `joined` are there and there are any."""
    key = secrets.token_bytes(32)
    with Listener(("127.0.0.1", 0), authkey=key) as listener:
        told = {"port": listener.address[1], "key": key.hex(), "process": os.getpid()}
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
    """The reply's content, or the exception and what it came of."""
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
    while file.exists() and _lives(joined) and time.monotonic() - last < _IDLE_SECONDS:
        if busy.is_set():
            last = time.monotonic()
        time.sleep(0.1)
    file.unlink(missing_ok=True)
    os._exit(0)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(os.environ[JOINED]))
