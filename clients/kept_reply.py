"""Saves a site's reply to its last training until a later round's request shows that it was delivered.

So no training is lost to a broken link or a killed process: the same request is answered with the same bits.
"""

import hashlib
import io
import json
import logging
import re
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

from fedpolyp.exchange.requests import Train
from fedpolyp.files import open_regular, replacing

_NAME = re.compile(r"reply-(\d{6,})-[0-9a-f]{64}\.npz")
_HEADER = "about"
_DIGEST = hashlib.sha256().digest_size
_LEFT_DAYS = 7.0  # after this, the file of a run that was not continued is removed
_log = logging.getLogger("flwr")


@dataclass(frozen=True)
class KeptReply:
    """The reply to one request: a file beside the hospital's private state, named by the request.

    The file is an archive of arrays, followed by its SHA-256, so that bits changed by a disk are not sent.
    """

    path: Path

    @classmethod
    def of(cls, state: Path, request: Train, content: RecordDict) -> "KeptReply":
        """The saved reply to the training request in `content`, identified by its round and a digest of the request.

        The digest is SHA-256 over the request's fields and the bytes of all arrays that came with it.
        """
        digest = hashlib.sha256(json.dumps(request.to_plain(), sort_keys=True).encode())
        for name, record in sorted(content.array_records.items()):
            for key, array in record.items():
                digest.update(f"{name}/{key}:{len(array.data)}:".encode())
                digest.update(array.data)
        return cls(state / f"reply-{request.round:06d}-{digest.hexdigest()}.npz")

    def read(self) -> RecordDict | None:
        """The reply; None if there is none, or its file is damaged."""
        try:
            with open_regular(self.path) as stream:
                whole = stream.read()
            content, said = whole[:-_DIGEST], whole[-_DIGEST:]
            if hashlib.sha256(content).digest() != said:
                raise ValueError("it was changed after it was written")
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                about = json.loads(archive[_HEADER].tobytes())
                reply = RecordDict({name: ArrayRecord() for name in about["records"]})
                for number, (name, key, dtype, shape, stype) in enumerate(about["arrays"]):
                    data = archive[f"array-{number}"].tobytes()
                    reply.array_records[name][key] = Array(dtype=dtype, shape=tuple(shape), stype=stype, data=data)
            reply["metrics"] = MetricRecord(about["metrics"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            _log.warning("the saved reply %s cannot be read, so the request is carried out again: %s", self.path, error)
            return None
        return reply

    def write(self, reply: RecordDict) -> None:
        """Save `reply`, whole or not at all, in place of earlier ones; on a full disk it is not saved."""
        described: list[list[Any]] = []
        arrays = {}
        for name, record in reply.array_records.items():
            for key, array in record.items():
                arrays[f"array-{len(described)}"] = np.frombuffer(array.data, np.uint8)
                described.append([name, key, array.dtype, array.shape, array.stype])
        metrics = dict(reply.metric_records["metrics"])
        about = {"records": list(reply.array_records), "arrays": described, "metrics": metrics}
        arrays[_HEADER] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        try:
            content = io.BytesIO()
            np.savez(content, **arrays)  # type: ignore[arg-type]  # numpy's stub offers its own keyword there
            with replacing(self.path) as stream:
                stream.write(content.getbuffer())
                stream.write(hashlib.sha256(content.getbuffer()).digest())
        except OSError as error:
            _log.warning("the reply could not be saved, in case it is not delivered: %s", error)
            return
        for known, _ in _kept(self.path.parent):
            if known != self.path:
                known.unlink(missing_ok=True)


def drop_delivered(state: Path, round: int) -> None:
    """Remove replies that a request of `round` shows to have been delivered, and those of other runs after a week."""
    for path, known in _kept(state):
        if known < round:
            path.unlink(missing_ok=True)
    for folder in state.parent.glob("*"):
        for path, _ in _kept(folder):
            if folder != state and time.time() - path.stat().st_mtime > _LEFT_DAYS * 86400:
                path.unlink(missing_ok=True)


def _kept(state: Path) -> Iterator[tuple[Path, int]]:
    for path in state.glob("reply-*.npz"):
        if name := _NAME.fullmatch(path.name):
            yield path, int(name[1])
