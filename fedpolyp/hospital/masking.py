"""What a hospital does with secure sums: it masks its update, and opens one sum a round."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedpolyp.aggregation.opaque import MASKED, SEED, SUM
from fedpolyp.algorithms.base import Groups
from fedpolyp.errors import FedpolypError, Refusal
from fedpolyp.exchange.replies import Answer, Reply
from fedpolyp.exchange.requests import Train, Unmask, named
from fedpolyp.files import parse_json, read_bytes, to_json, write_text
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.privacy.fixed_point import DoesNotFit, encode
from fedpolyp.privacy.openings import Openings
from fedpolyp.privacy.secure_sum import Member, Terms, digest_of
from fedpolyp.rounds.replies import BadReply, read_update

_MASKED, _OPENINGS = "masked.json", "openings.jsonl"
_MOST_BYTES = 4096


def mask(request: Train, answer: Answer, sent: Groups, like: Groups, hospital: Hospital) -> Answer:
    """`answer` with its update masked, once the hospital has looked at what nobody else will be able to look at.

    Args:
        request: that was answered.
        answer: with the update in the clear.
        sent: what came with the request, by group.
        like: the names, shapes and types of an update's arrays, by group.
        hospital: that answers.

    Raises:
        Refusal: the update is none that a coordinator would take, or the sum none that hides it.
    """
    config, members = hospital.config, named(request.members)
    terms = _terms(request, members, hospital)
    if len(members) < config.privacy.secure_least:
        raise Refusal(f"a secure sum is of {config.privacy.secure_least} hospitals at least; {len(members)} are named")
    try:
        update = read_update(Reply(hospital.name, answer), sent, like, config)
        weight = 1 if config.federation.weights == "equal" else update.images
        words = encode(update.changes, weight, len(members))
    except (BadReply, DoesNotFit) as error:
        raise Refusal(f"its update cannot be summed up: {error}") from None
    masked = _member(hospital).masked(words, terms)
    what = {"round": request.round, "sum": terms.digest.hex(), "masked": digest_of(words).hex(), "words": words.size}
    write_text(_file(hospital), to_json(what))
    return replace(answer, sent={MASKED: {SUM: masked}})


def unmask(request: Unmask, hospital: Hospital) -> Answer:
    """What opens the sum of the request's round, for which the hospital has masked its update.

    Raises:
        Refusal: it has not, or has opened another sum in that round, or this one would not hide its update.
        FedpolypError: what it has kept is damaged.
    """
    privacy = hospital.config.privacy
    if not privacy.secure_sums:
        raise Refusal("there is nothing to unmask: this run has no secure sums")
    survivors = named(request.survivors)
    terms = _terms(request, named(request.members), hospital)
    kept = _kept(hospital)
    if kept is None or (kept.round, kept.sum) != (request.round, terms.digest):
        raise Refusal(f"this hospital has masked nothing for that sum of round {request.round}")
    opening = _member(hospital).opening(terms, kept.masked, kept.words, survivors, privacy.secure_least)
    Openings(hospital.state / _OPENINGS).note(terms, kept.masked, survivors)
    if opening.words is None:
        return Answer({}, {MASKED: {SEED: np.frombuffer(opening.seed, np.uint8)}})
    return Answer({}, {MASKED: {SUM: opening.words}})


@dataclass(frozen=True)
class _Masked:
    """What the hospital masked last."""

    round: int
    sum: bytes
    masked: bytes
    words: int


def _kept(hospital: Hospital) -> _Masked | None:
    file = _file(hospital)
    try:
        plain = parse_json(read_bytes(file, _MOST_BYTES))
        digests = bytes.fromhex(plain["sum"]), bytes.fromhex(plain["masked"])
        return _Masked(int(plain["round"]), *digests, int(plain["words"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise FedpolypError(f"{file} is damaged: remove it, and this hospital sits out the round") from None


def _file(hospital: Hospital) -> Path:
    return hospital.state / _MASKED


def _member(hospital: Hospital) -> Member:
    return Member.simulated(hospital.config.seed, hospital.name)


def _terms(request: Train | Unmask, members: list[str], hospital: Hospital) -> Terms:
    """The terms of the request's sum; the coordinator names the hospitals, and no keys."""
    if len(set(members)) < len(members):
        raise Refusal("a hospital of a sum is named twice")
    seed = hospital.config.seed
    return Terms(request.run, request.round, {name: Member.simulated(seed, name).public for name in members})
