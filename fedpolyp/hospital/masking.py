"""What a hospital does in secure sums: it masks its update, and opens one sum a round."""

import hashlib
import json
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
from fedpolyp.privacy.keyring import Keyring
from fedpolyp.privacy.openings import Opened
from fedpolyp.privacy.secure_sum import Terms, digest_of
from fedpolyp.rounds.replies import BadReply, read_update

_MASKED = "masked.json"
_MOST_BYTES = 4096


def accepted(request: Train | Unmask, hospital: Hospital, settings: bytes = b"") -> tuple[Keyring, Terms]:
    """What the hospital masks with in the request's sum, and the terms of this sum, among them its `settings`.

    Raises:
        Refusal: the sum would not hide the hospital's update.
    """
    members, least = named(request.members), hospital.config.privacy.secure_least
    if len(members) < least:
        raise Refusal(f"a secure sum is of {least} hospitals at least; {len(members)} are named")
    keyring = hospital.keyring or Keyring.simulated(hospital.config.seed, hospital.name, members, hospital.state)
    terms = keyring.terms(request.run, request.round, members, settings)
    keyring.member.check(terms)
    return keyring, terms


def mask(request: Train, answer: Answer, sent: Groups, like: Groups, hospital: Hospital) -> Answer:
    """`answer` with its update masked, after the checks that nobody else can make afterwards.

    Args:
        request: the request that was answered.
        answer: the answer with its update unmasked.
        sent: what came with the request, by group.
        like: the names, shapes and types of an update's arrays, by group.
        hospital: the hospital that answers.

    Raises:
        Refusal: a coordinator would reject the update, the sum would not hide it, or the hospital has opened a sum
            with this update in another run or round.
        FedpolypError: a file of the hospital's own is damaged.
    """
    config, settings = hospital.config, _settings(request, hospital)
    keyring, terms = accepted(request, hospital, settings)
    try:
        update = read_update(Reply(hospital.name, answer), sent, like, config, request.round)
        weight = 1 if config.federation.weights == "equal" else update.images
        words = encode(update.changes, weight, len(terms.keys))
    except (BadReply, DoesNotFit) as error:
        raise Refusal(f"its update cannot be summed up: {error}") from None
    # The same update with another weight would be in a second sum, too.
    alone = digest_of(words if weight == 1 else encode(update.changes, 1, len(terms.keys)))
    asked = _asked(request, sent, hospital)
    keyring.openings.refuse_known(Opened.of(terms, alone, asked, ()))
    masked = keyring.member.masked(words, terms)
    kept = {
        "round": request.round,
        "sum": terms.digest.hex(),
        "settings": settings.hex(),
        "masked": digest_of(words).hex(),
        "update": alone.hex(),
        "asked": asked.hex(),
        "words": words.size,
        "least": config.privacy.secure_least,
    }
    write_text(_file(hospital), to_json(kept))
    return replace(answer, sent={MASKED: {SUM: masked}})


def unmask(request: Unmask, hospital: Hospital) -> Answer:
    """What opens the sum of the request's round, for which the hospital has masked its update.

    Raises:
        Refusal: it has not, it has opened another sum with this update or in this round, or this sum would not hide
            the update.
        FedpolypError: a file of the hospital's own is damaged.
    """
    privacy = hospital.config.privacy
    if not privacy.secure_sums:
        raise Refusal("there is nothing to unmask: this run has no secure sums")
    survivors, kept = named(request.survivors), _kept(hospital)
    keyring, terms = accepted(request, hospital, b"" if kept is None else kept.settings)
    if kept is None or (kept.round, kept.sum) != (request.round, terms.digest):
        raise Refusal(f"this hospital has masked nothing for that sum of round {request.round}")
    # Its share of joint noise was computed for this many hospitals, whatever the request to open says.
    least = max(kept.least, privacy.secure_least)
    opening = keyring.member.opening(terms, kept.masked, kept.words, survivors, least)
    keyring.openings.note(Opened.of(terms, kept.update, kept.asked, survivors))
    if opening.words is None:
        return Answer({}, {MASKED: {SEED: np.frombuffer(opening.seed, np.uint8)}})
    return Answer({}, {MASKED: {SUM: opening.words}})


@dataclass(frozen=True)
class _Masked:
    """What the hospital masked last."""

    round: int
    sum: bytes
    settings: bytes
    masked: bytes
    update: bytes
    asked: bytes
    words: int
    least: int  # the fewest hospitals whose sum may be opened


def _kept(hospital: Hospital) -> _Masked | None:
    file = _file(hospital)
    try:
        plain = parse_json(read_bytes(file, _MOST_BYTES))
        sum, settings, masked, update, asked = (
            bytes.fromhex(plain[name]) for name in ("sum", "settings", "masked", "update", "asked")
        )
        return _Masked(
            int(plain["round"]), sum, settings, masked, update, asked, int(plain["words"]), int(plain["least"])
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise FedpolypError(f"{file} is damaged: remove it, and this hospital sits out the round") from None


def _file(hospital: Hospital) -> Path:
    return hospital.state / _MASKED


def _settings(request: Train, hospital: Hospital) -> bytes:
    """A digest of all in a request that decides how much noise each hospital adds to each number of the sum.

    It is part of the sum's terms. A coordinator that asks one hospital for less noise than the others, for a smaller
    step, or for fewer numbers that learn, reads noise: the masks of hospitals that were asked differently remain.
    """
    config = hospital.config
    said = [
        request.learning_rate,
        config.federation.rounds if config.privacy.on else None,  # else a run can be given more of them
        config.federation.weights,
        *config.of_a_step,
        config.privacy.model_dump(mode="json"),
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).digest()


def _asked(request: Train, sent: Groups, hospital: Hospital) -> bytes:
    """A digest of everything in a request that decides the update: the same in another run that asks the same.

    Neither the run's name nor the hospitals of the sum count.
    """
    config = hospital.config
    said = [
        request.round,
        request.learning_rate,
        config.seed,
        *config.of_a_step,
        config.algorithm.model_dump(mode="json"),
        config.privacy.mode,
    ]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for group in sorted(sent):
        for name, array in sorted(sent[group].items()):
            digest.update(f"{group}/{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
