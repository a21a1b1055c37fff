"""A message to a hospital, passed to its work: the adapter between Flower and `fedpolyp.hospital`."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from flwr.app import RecordDict

from clients.kept_reply import KeptReply, drop_delivered
from clients.simulated import hospital_in_simulation
from clients.site import hospital_at, is_site, settings_of
from fedpolyp.errors import Refusal
from fedpolyp.exchange.packing import Malformed
from fedpolyp.exchange.replies import Answer
from fedpolyp.exchange.requests import Evaluate, Request, Train, Unmask
from fedpolyp.hospital import masking, private_state, work
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.model.arrays import Arrays, fault
from fedpolyp.simulation.records import from_record, plain_request, to_reply
from fedpolyp.sites import audit

R = TypeVar("R", bound=Request)


def train(content: RecordDict, node_config: Mapping[str, Any]) -> RecordDict:
    """Train on the hospital's training images; reply with an update, and the number of images.

    A site answers a repeated request with the reply that it has saved.
    """
    request = read_request(Train, content)
    hospital = _hospital(request, node_config)
    if not is_site(node_config):
        return _reply(work.train(request, _received(content), hospital), hospital)
    drop_delivered(hospital.state, request.round)
    kept = KeptReply.of(hospital.state, request, content)
    if (reply := kept.read()) is not None:
        about = {"run": request.run, "message": "train", "round": request.round}
        audit.append(
            settings_of(node_config).audit, "found", about | {"reason": "trained before; the saved reply is sent"}
        )
        return reply
    with _told_what_is_gone(request):
        reply = _reply(work.train(request, _received(content), hospital), hospital)
    kept.write(reply)
    return reply


def evaluate(content: RecordDict, node_config: Mapping[str, Any]) -> RecordDict:
    """Score the model on one of the hospital's own sets; reply with each image's counts, losses and distances."""
    request = read_request(Evaluate, content)
    hospital = _hospital(request, node_config)
    if not is_site(node_config):
        return _reply(work.evaluate(request, _received(content), hospital), hospital)
    drop_delivered(hospital.state, request.round)
    with _told_what_is_gone(request):
        return _reply(work.evaluate(request, _received(content), hospital), hospital)


def unmask(content: RecordDict, node_config: Mapping[str, Any]) -> RecordDict:
    """Open the secure sum of a round; reply with what takes the hospital's mask off it."""
    request = read_request(Unmask, content)
    hospital = _hospital(request, node_config)
    return _reply(masking.unmask(request, hospital), hospital)


WORK: dict[str, Callable[[RecordDict, Mapping[str, Any]], RecordDict]] = {
    "train": train,
    "evaluate": evaluate,
    "unmask": unmask,
}


def read_request(kind: type[R], content: RecordDict) -> R:
    """The request in a message's content.

    Raises:
        Refusal: there is none, or it is not valid.
    """
    plain = plain_request(content)
    if not plain:
        raise Refusal("the message holds no request")
    try:
        return kind.from_plain(plain)
    except ValueError as error:
        raise Refusal(str(error)) from None


def _reply(answer: Answer, hospital: Hospital) -> RecordDict:
    return to_reply(answer, os.getpid(), hospital.config.training.wire == "bfloat16")


@contextlib.contextmanager
def _told_what_is_gone(request: Request) -> Iterator[None]:
    """Tell the coordinator that a site no longer has the state that the request needs, without a path."""
    try:
        yield
    except private_state.Gone:
        raise Refusal(
            f"this site's state of round {request.counted} of this run is gone: it is removed after 30 days without "
            "a request; go back to an earlier round, or start another run"
        ) from None


def _received(content: RecordDict) -> work.Received:
    def received(group: str, like: Arrays) -> Arrays:
        """The arrays of `group`, which must fit.

        Raises:
            Refusal: they are missing, or do not fit.
        """
        if group not in content.array_records:
            raise Refusal(f"the message holds no {group}")
        try:
            arrays = from_record(content.array_records[group])
        except Malformed as error:
            raise Refusal(str(error)) from None
        if wrong := fault(arrays, like):
            raise Refusal(wrong)
        return arrays

    return received


def _hospital(request: Request, node_config: Mapping[str, Any]) -> Hospital:
    if is_site(node_config):
        return hospital_at(settings_of(node_config), request)
    return hospital_in_simulation(request, node_config)
