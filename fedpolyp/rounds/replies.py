"""Reads hospitals' replies: this is the only place that does, and every reply may be hostile.

Limits on sizes come first, then types, then values; any error while reading a reply rejects it.
"""

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedpolyp.aggregation.aggregate import Update
from fedpolyp.aggregation.opaque import MASKED, SEED, SUM
from fedpolyp.algorithms.base import MODEL, OPTIMIZER, Groups, trainable
from fedpolyp.algorithms.finding import find
from fedpolyp.config import Config
from fedpolyp.exchange.packing import Malformed
from fedpolyp.exchange.replies import Content, Reply
from fedpolyp.model.arrays import NOT_FINITE, Arrays, fault, mismatch
from fedpolyp.privacy.fixed_point import words_of
from fedpolyp.privacy.secure_sum import SEED_BYTES, Opening
from fedpolyp.rounds.possible import fault_of_moments, fault_of_weights
from fedpolyp.text import printable

# A loss is a mean over pixels: a larger one means that nothing was learned, and sums of a few would be infinite.
LARGEST_LOSS = 1e6
_SMALLEST_LOSS = -1e-3  # soft Dice may be a rounding error above 1
_SAID = 300  # characters of a reason
_MOST_NOISY = 1e6  # far beyond any noise


@dataclass(frozen=True)
class NoisyScore:
    """The mean Dice of a hospital's test images with noise, as it came: it may be below 0 or above 1."""

    dice: float
    deviation: float  # standard deviation of the noise
    epsilon: float  # that the hospital has spent


class BadReply(ValueError):
    """A rejected reply; the reason is short and printable."""

    def __init__(self, reason: str) -> None:
        super().__init__(printable(reason, _SAID))


class NotFinite(BadReply):
    """A training that diverged: its loss or its weights are not finite."""


def read_update(reply: Reply, sent: Groups, like: Groups, config: Config, round: int) -> Update:
    """Read a reply to the training request that carried `sent`.

    Args:
        reply: the reply.
        sent: what was sent to the hospital, by group.
        like: the names, shapes and types of an update's arrays, by group.
        config: of the training.
        round: of the training, from 1.

    Raises:
        BadReply: the hospital failed, or its reply cannot be a result of that training.
    """
    with _nothing_but_bad_replies():
        content = _content(reply)
        told = _told(reply.hospital, content, config)
        like = updated(like, config)
        _refuse_unknown(content, like.keys())
        if find(config.algorithm.name).whole:
            return replace(told, changes={group: _change(content, group, {}, own) for group, own in like.items()})
        if config.privacy.on:  # with noise, no gradient is impossible
            known = {name: sent[MODEL][name] for name in like[MODEL]}
            return replace(told, changes={MODEL: _change(content, MODEL, known, like[MODEL])})
        changes = {group: _change(content, group, sent.get(group, {}), arrays) for group, arrays in like.items()}
        done = int(changes[OPTIMIZER]["iterations"]) if OPTIMIZER in changes else told.steps
        if done != told.steps:
            raise BadReply(f"its optimizer counts {_short(done)} steps, but it took {told.steps}")
        impossible = fault_of_weights(changes.get(MODEL, {}), config, round)
        if not impossible and OPTIMIZER in changes and OPTIMIZER in sent:
            halves = config.training.wire == "bfloat16"
            impossible = fault_of_moments(changes[OPTIMIZER], sent[OPTIMIZER], told.steps, halves)
        if impossible:
            raise BadReply(impossible)
        return replace(told, changes=changes)


def updated(like: Groups, config: Config) -> Groups:
    """The names, shapes and types of the arrays of an update in `config`, where an algorithm has those of `like`."""
    return {MODEL: trainable(like[MODEL])} if config.privacy.on else like


def read_masked(reply: Reply, like: Groups, config: Config) -> Update:
    """Read a reply to a training request whose update is masked: only its size can be checked.

    Args:
        reply: the reply.
        like: the names, shapes and types of an update's arrays, by group; see `updated`.
        config: of the training.

    Raises:
        BadReply: the hospital failed, or sent something that cannot be a masked update.
    """
    with _nothing_but_bad_replies():
        content = _content(reply)
        told = _told(reply.hospital, content, config)
        _refuse_unknown(content, {MASKED})
        return replace(told, changes={MASKED: {SUM: _masked(content, SUM, words_of(like), np.uint64)}})


def read_opening(reply: Reply, like: Groups, lost: bool) -> Opening:
    """Read a reply to `Unmask`: a seed, or if a hospital is `lost`, as many words as a masked update has.

    Raises:
        BadReply: the hospital failed or refused, or sent something that cannot open a sum.
    """
    with _nothing_but_bad_replies():
        content = _content(reply)
        _refuse_unknown(content, {MASKED})
        if lost:
            return Opening(words=_masked(content, SUM, words_of(like), np.uint64))
        return Opening(_masked(content, SEED, SEED_BYTES, np.uint8).tobytes())


def _masked(content: Content, name: str, size: int, kind: type[np.generic]) -> NDArray[Any]:
    """The only array of a reply in secure sums."""
    arrays = content.arrays(MASKED)
    if list(arrays) != [name] or arrays[name].shape != (size,) or arrays[name].dtype != kind:
        raise BadReply(f"it sends no {name} of {size} numbers of type {np.dtype(kind).name}")
    return arrays[name]


def _told(hospital: str, content: Content, config: Config) -> Update:
    """What a reply says about the training, as an update without changes."""
    if config.privacy.on:
        units, epsilon = content.said.get("units"), content.said.get("epsilon")
        if type(units) is not int or units < 1 or type(epsilon) is not float or not 0 <= epsilon < math.inf:
            raise BadReply(f"it reports {_short(units)} units and an epsilon of {_short(epsilon)}")
        return Update(hospital, {}, float(units), units, None, 1, epsilon)
    images, loss, steps = (content.said.get(name) for name in ("images", "train_loss", "steps"))
    if type(images) is not int or images < 1 or type(loss) is not float:
        raise BadReply(f"it reports {_short(images)} images and a training loss of {_short(loss)}")
    if not math.isfinite(loss):
        raise NotFinite(f"it reports a training loss of {loss}")
    if not _SMALLEST_LOSS <= loss <= LARGEST_LOSS:
        raise BadReply(f"it reports a training loss of {loss:g}")
    if type(steps) is not int or steps != config.training.steps(images):
        raise BadReply(f"it reports {_short(steps)} steps, which {images} images do not take")
    return Update(hospital, {}, float(images), images, loss, steps)


def _refuse_unknown(content: Content, expected: Collection[str]) -> None:
    if unknown := sorted(set(content.groups) - set(expected)):
        raise BadReply(f"it sends {_short(', '.join(unknown))}, which was not asked for")


def _change(content: Content, group: str, sent: Arrays, like: Arrays) -> Arrays:
    """A group of an update: a difference that leads from what was `sent` to possible values."""
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
    """The 'counts' (N, 4) int64 and 'losses' (N,) float64 of a hospital's images of `side` pixels.

    With `distances` also 'hd95' (N,) float64.

    Raises:
        BadReply: the hospital failed, or its reply has no such scores.
    """
    with _nothing_but_bad_replies():
        content = _content(reply)
        scores = content.arrays("scores")
        counts = scores.get("counts")
        if counts is None or counts.ndim != 2 or counts.shape[1] != 4 or counts.dtype.kind not in "iu":
            raise BadReply("its scores have no counts with four columns")
        # Each before the sum, which may wrap around.
        if (counts < 0).any() or (counts > side**2).any() or (counts.astype(np.int64).sum(axis=1) != side**2).any():
            raise BadReply(f"its counts do not add up to the {side**2} pixels of an image")
        read = {"counts": counts.astype(np.int64)}
        for name in ("losses", "hd95") if distances else ("losses",):
            others = scores.get(name)
            if others is None or others.shape != (len(counts),) or others.dtype.kind != "f":
                raise BadReply(f"its scores do not hold one of {name} for each image")
            low, high = (0.0, 1.0) if name == "hd95" else (_SMALLEST_LOSS, LARGEST_LOSS)
            if not ((others >= low) & (others <= high)).all():  # NaN is neither
                raise BadReply(f"its {name} are not all numbers between {max(0, low):g} and {high:g}")
            read[name] = others.astype(np.float64)
        return read


def read_noisy_score(reply: Reply, config: Config) -> NoisyScore:
    """A hospital's noisy mean Dice, in a run whose `config` asks for it.

    Raises:
        BadReply: the hospital failed or refused, or its reply has no such score.
    """
    with _nothing_but_bad_replies():
        content = _content(reply)
        _refuse_unknown(content, ())
        told: list[Any] = [content.said.get(name) for name in ("noisy_dice", "deviation", "epsilon")]
        if not all(type(number) is float and math.isfinite(number) for number in told):
            raise BadReply(
                f"it reports a noisy Dice of {_short(told[0])}, ± {_short(told[1])}, epsilon {_short(told[2])}"
            )
        score = NoisyScore(*told)
        if abs(score.dice) > _MOST_NOISY or not 0 < score.deviation <= config.privacy.score_noise().sigma:
            raise BadReply(f"it reports a noisy Dice of {score.dice:g}, and noise of {score.deviation:g}")
        if score.epsilon < 0:
            raise BadReply(f"it reports an epsilon of {score.epsilon:g}")
        return score


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
