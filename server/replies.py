"""What hospitals reply, read: the one place where it is taken apart, and all of it may be hostile.

Limits on sizes come first, then types, then values; whatever goes wrong in reading a reply is a refusal of it.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from flwr.app import MetricRecord, RecordDict

from clients.messages import from_record
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.config import Config
from fedpolyp.exchange.packing import Malformed
from fedpolyp.model.arrays import NOT_FINITE, Arrays, fault
from fedpolyp.text import printable
from server.exchange import Reply
from server.possible import fault_of_moments, fault_of_weights

# A loss is a mean over pixels: beyond this nothing was learned, and sums of some more would be infinite.
LARGEST_LOSS = 1e6
_SMALLEST_LOSS = -1e-3  # soft Dice may be a rounding error above 1
_SAID = 300  # characters of a reason


class BadReply(ValueError):
    """A reply that does not count; the reason is short and prints."""

    def __init__(self, reason: str) -> None:
        super().__init__(printable(reason, _SAID))


class NotFinite(BadReply):
    """A training that diverged: its loss or its weights are no finite numbers."""


@dataclass(frozen=True)
class Update:
    """What a hospital's training brings to the average, checked."""

    arrays: Arrays
    moments: Arrays
    images: int
    loss: float
    steps: int


def read_update(reply: Reply, asked: Checkpoint, config: Config) -> Update:
    """Read a reply to the training order that carried the weights of `asked`, and was for a training of `config`.

    Raises:
        BadReply: the hospital failed, or sent what cannot come of that training.
    """
    with _nothing_but_bad_replies():
        content = _content(reply)
        said = content.metric_records.get("metrics", MetricRecord())
        images, loss, steps = said.get("images"), said.get("train_loss"), said.get("steps")
        if type(images) is not int or images < 1 or type(loss) is not float:
            raise BadReply(f"it reports {_short(images)} images and a training loss of {_short(loss)}")
        if not math.isfinite(loss):
            raise NotFinite(f"it reports a training loss of {loss}")
        if not _SMALLEST_LOSS <= loss <= LARGEST_LOSS:
            raise BadReply(f"it reports a training loss of {loss:g}")
        training = config.training
        if type(steps) is not int or steps != -(-images // training.batch_size) * training.local_epochs:
            raise BadReply(f"it reports {_short(steps)} steps, which {images} images do not take")
        arrays = _arrays(content, "arrays", asked.arrays)
        moments = _arrays(content, "optimizer", asked.strategy)
        done = moments["iterations"] - asked.strategy["iterations"] if moments else steps
        if done != steps:
            raise BadReply(f"its optimizer counts {_short(int(done))} steps, and it took {steps}")
        impossible = fault_of_weights(arrays, asked.arrays, config)
        if not impossible and moments:
            impossible = fault_of_moments(moments, asked.strategy, steps)
        if impossible:
            raise BadReply(impossible)
        return Update(arrays, moments, images, loss, steps)


def read_scores(reply: Reply, also: str, side: int) -> Arrays:
    """The counts (N, 4) int64 that a hospital sent of images of `side` pixels, and `also` (N,) float64.

    `also` is 'losses' or 'hd95'.

    Raises:
        BadReply: the hospital failed, or sent what are no such scores.
    """
    with _nothing_but_bad_replies():
        content = _content(reply)
        scores = from_record(content.array_records["scores"]) if "scores" in content.array_records else {}
        counts, others = scores.get("counts"), scores.get(also)
        if counts is None or counts.ndim != 2 or counts.shape[1] != 4 or counts.dtype.kind not in "iu":
            raise BadReply("its scores hold no counts of four columns")
        # Each for itself before their sum, which may wrap around.
        if (counts < 0).any() or (counts > side**2).any() or (counts.astype(np.int64).sum(axis=1) != side**2).any():
            raise BadReply(f"its counts are not those of the {side**2} pixels of an image")
        if others is None or others.shape != (len(counts),) or others.dtype.kind != "f":
            raise BadReply(f"its scores do not hold one of {also} for each image")
        low, high = (0.0, 1.0) if also == "hd95" else (_SMALLEST_LOSS, LARGEST_LOSS)
        if not ((others >= low) & (others <= high)).all():  # no number is neither
            raise BadReply(f"its {also} are not all numbers between {max(0, low):g} and {high:g}")
        return {"counts": counts.astype(np.int64), also: others.astype(np.float64)}


@contextmanager
def _nothing_but_bad_replies() -> Iterator[None]:
    try:
        yield
    except BadReply:
        raise
    except Malformed as error:
        raise BadReply(str(error)) from None
    except Exception as error:
        raise BadReply(f"it cannot be read: {type(error).__name__}") from None


def _content(reply: Reply) -> RecordDict:
    if reply.content is None:
        raise BadReply(reply.reason)
    return reply.content


def _arrays(content: RecordDict, name: str, like: Arrays) -> Arrays:
    arrays = from_record(content.array_records[name]) if name in content.array_records else {}
    if wrong := fault(arrays, like):
        raise NotFinite(wrong) if wrong.endswith(NOT_FINITE) else BadReply(wrong)
    return arrays


def _short(value: object) -> str:
    return printable(str(value)[:1000], 50)
