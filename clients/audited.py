"""A ClientApp that keeps a site's audit log, and removes everything about the site from the reason of a failure."""

import errno
import hashlib
import logging
import time
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients.site import is_site, settings_of
from fedpolyp.errors import Refusal, UsageError
from fedpolyp.exchange.requests import KINDS
from fedpolyp.simulation.records import plain_request
from fedpolyp.sites import audit

_DISK = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
}
_log = logging.getLogger("flwr")


class AuditedApp(ClientApp):
    """Logs each request before it is carried out, and each reply before it is sent.

    Nothing is done without a log. In a simulation there is no site and no log.
    """

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer `message`, as `ClientApp` does.

        Raises:
            Refusal: the site refuses the request; the reason may be sent.
            RuntimeError: the site tried and failed; the reason names none of its files and folders.
        """
        if not is_site(context.node_config):
            return super().__call__(message, context)
        try:
            return self._answer(message, context, settings_of(context.node_config).audit)
        except Refusal:
            raise
        except Exception as error:
            _log.exception("the request failed")  # this stays at the site
            raise RuntimeError(_sayable(error)) from None

    def _answer(self, message: Message, context: Context, log: Path) -> Message:
        about, began = _about(message), time.monotonic()
        audit.append(log, "asked", about | _weight(message.content))
        try:
            if message.metadata.message_type not in KINDS:
                raise Refusal(f"a site accepts the messages {', '.join(KINDS)}; got {about['message']}")
            reply = super().__call__(message, context)
        except Exception as error:
            event = "refused" if isinstance(error, Refusal) else "failed"
            audit.append(log, event, about | {"reason": f"{type(error).__name__}: {error}"[:500]})
            raise
        seconds = {"seconds": round(time.monotonic() - began, 3)}
        audit.append(log, "sent", about | seconds | _weight(reply.content))
        return reply


def _about(message: Message) -> dict[str, Any]:
    """The run and kind of this message, and the request's round and set, as far as they can be read."""
    kind = message.metadata.message_type
    request = plain_request(message.content)
    about: dict[str, Any] = {"run": str(request.get("run", ""))[:32], "message": str(kind)[:100]}
    if kind == "evaluate":
        about["set"] = str(request.get("score_set", ""))[:20]
    return about | {"round": request.get("round") if isinstance(request.get("round"), int) else None}


def _weight(content: RecordDict) -> dict[str, Any]:
    """Bytes of all arrays, and their SHA-256: over each record's name and the bytes that Flower carries for it."""
    digest, size = hashlib.sha256(), 0
    for name, record in sorted(content.array_records.items()):
        for key, array in record.items():
            digest.update(f"{name}/{key}:".encode())
            digest.update(array.data)
            size += len(array.data)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _sayable(error: Exception) -> str:
    if isinstance(error, UsageError):
        return "its settings or images cannot be used: its own log says why"
    disk = error if isinstance(error, OSError) else error.__context__
    if isinstance(disk, OSError) and disk.errno in _DISK:
        return f"it cannot work with its disk: {disk.strerror}"
    if type(disk) is OSError and disk.errno is None:  # NumPy's error when it could not write everything
        return "it cannot work with its disk: its own log says why"
    return f"it failed ({type(error).__name__}): its own log says why"
