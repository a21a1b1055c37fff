"""What hospitals reply, read: the one place where it is taken apart, and all of it may be hostile.

Limits on sizes come first, then types, then values; whatever goes wrong in reading a reply is a refusal of it.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fedpolyp.aggregation.aggregate import Update
from fedpolyp.algorithms.base import MODEL, OPTIMIZER, Groups, trainable
from fedpolyp.algorithms.finding import find
from fedpolyp.config import Config
from fedpolyp.exchange.replies import Content, Malformed, Reply
from fedpolyp.model.arrays import NOT_FINITE, Arrays, fault, mismatch
from fedpolyp.rounds.possible import fault_of_moments, fault_of_weights
from fedpolyp.text import printable

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


def read_update(reply: Reply, sent: Groups, like: Groups, config: Config) -> Update:
    """Read a reply to the training request that carried `sent`.

    Args:
        reply: the reply.
        sent: what the hospital was sent, by group.
        like: the names, shapes and types of an update's arrays, by group.
        config: of the training.

    Raises:
        BadReply: the hospital failed, or sent what cannot come of that training.
    """
    with _nothing_but_bad_replies():
        content = _content(reply)
        if config.privacy.on:
            return _private_update(reply.hospital, content, sent[MODEL], trainable(like[MODEL]))
        images, loss, steps = (content.said.get(name) for name in ("images", "train_loss", "steps"))
        if type(images) is not int or images < 1 or type(loss) is not float:
            raise BadReply(f"it reports {_short(images)} images and a training loss of {_short(loss)}")
        if not math.isfinite(loss):
            raise NotFinite(f"it reports a training loss of {loss}")
        if not _SMALLEST_LOSS <= loss <= LARGEST_LOSS:
            raise BadReply(f"it reports a training loss of {loss:g}")
        if type(steps) is not int or steps != config.training.steps(images):
            raise BadReply(f"it reports {_short(steps)} steps, which {images} images do not take")
        if unknown := sorted(set(content.groups) - like.keys()):
            raise BadReply(f"it sends {_short(', '.join(unknown))}, which was not asked for")
        if find(config.algorithm.name).whole:
            values = {group: _change(content, group, {}, arrays) for group, arrays in like.items()}
            return Update(reply.hospital, values, float(images), images, loss, steps)
        changes = {group: _change(content, group, sent.get(group, {}), arrays) for group, arrays in like.items()}
        done = int(changes[OPTIMIZER]["iterations"]) if OPTIMIZER in changes else steps
        if done != steps:
            raise BadReply(f"its optimizer counts {_short(done)} steps, but it took {steps}")
        impossible = fault_of_weights(changes.get(MODEL, {}), config)
        if not impossible and OPTIMIZER in changes and OPTIMIZER in sent:
            halves = config.training.wire == "bfloat16"
            impossible = fault_of_moments(changes[OPTIMIZER], sent[OPTIMIZER], steps, halves)
        if impossible:
            raise BadReply(impossible)
        return Update(reply.hospital, changes, float(images), images, loss, steps)


def _private_update(hospital: str, content: Content, sent: Arrays, like: Arrays) -> Update:
    """A noisy gradient. What it may be, nobody can tell: the noise could be any."""
    units, epsilon = content.said.get("units"), content.said.get("epsilon")
    if type(units) is not int or units < 1 or type(epsilon) is not float or not 0 <= epsilon < math.inf:
        raise BadReply(f"it reports {_short(units)} units and an epsilon of {_short(epsilon)}")
    if unknown := sorted(set(content.groups) - {MODEL}):
        raise BadReply(f"it sends {_short(', '.join(unknown))}, which was not asked for")
    change = _change(content, MODEL, {name: sent[name] for name in like}, like)
    return Update(hospital, {MODEL: change}, float(units), units, None, 1, epsilon)


def _change(content: Content, group: str, sent: Arrays, like: Arrays) -> Arrays:
    """A group of an update: a difference that leads from what was `sent` to values that can be."""
    change = content.arrays(group)
    if wrong := mismatch(change, {name: array.shape for name, array in like.items()}):
        raise NotFinite(wrong) if wrong.endswith(NOT_FINITE) else BadReply(wrong)
    for name, known in like.items():
        if change[name].dtype != known.dtype:
            raise BadReply(f"array {name} is {change[name].dtype}, expected {known.dtype}")
    with np.errstate(over="ignore"):
        values = {name: change[name] + sent[name] if name in sent else change[name] for name in like}
    if wrong := fault(values, like):
        raise BadReply(wrong)
    return change


def read_scores(reply: Reply, side: int, distances: bool = False) -> Arrays:
    """The 'counts' (N, 4) int64 and 'losses' (N,) float64 that a hospital sent of images of `side` pixels.

    With `distances` also 'hd95' (N,) float64.

    Raises:
        BadReply: the hospital failed, or sent what are no such scores.
    """
    with _nothing_but_bad_replies():
        content = _content(reply)
        scores = content.arrays("scores")
        counts = scores.get("counts")
        if counts is None or counts.ndim != 2 or counts.shape[1] != 4 or counts.dtype.kind not in "iu":
            raise BadReply("its scores have no counts with four columns")
        # Each for itself before their sum, which may wrap around.
        if (counts < 0).any() or (counts > side**2).any() or (counts.astype(np.int64).sum(axis=1) != side**2).any():
            raise BadReply(f"its counts do not add up to the {side**2} pixels of an image")
        read = {"counts": counts.astype(np.int64)}
        for name in ("losses", "hd95") if distances else ("losses",):
            others = scores.get(name)
            if others is None or others.shape != (len(counts),) or others.dtype.kind != "f":
                raise BadReply(f"its scores do not hold one of {name} for each image")
            low, high = (0.0, 1.0) if name == "hd95" else (_SMALLEST_LOSS, LARGEST_LOSS)
            if not ((others >= low) & (others <= high)).all():  # no number is neither
                raise BadReply(f"its {name} are not all numbers between {max(0, low):g} and {high:g}")
            read[name] = others.astype(np.float64)
        return read


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


def _content(reply: Reply) -> Content:
    if reply.content is None:
        raise BadReply(reply.reason)
    return reply.content


def _short(value: object) -> str:
    return printable(str(value)[:1000], 50)
