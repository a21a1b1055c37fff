"""What this project puts before Flower's SuperLink: what hospitals push, played against the SuperLink's own state."""

import importlib
import math
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import HTTPException
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import NOOP_FLWR_AID, SUPERLINK_NODE_ID
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.server.superlink.linkstate.linkstate_factory import LinkStateFactory
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation.noop_federation_manager import NoOpFederationManager
from flwr.superlink.servicer.fleet import fleet_handlers

from fedpolyp.cli import superlink
from fedpolyp.cli.superlink import Gate
from fedpolyp.sites.folders import make_federation

MOST = 100_000


def state_in(folder: Path) -> Any:
    """The state that a SuperLink keeps in a database in `folder`, which is made if there is none."""
    database = str(folder / "superlink.db")
    return LinkStateFactory(database, NoOpFederationManager(), ObjectStoreFactory(database)).state()


class SuperLink:
    """The state of a SuperLink with a run, two hospitals, and an order to each; before it, the gate."""

    def __init__(self, folder: Path) -> None:
        self.state = state_in(folder)
        self.nodes = {}
        for name in ("oslo", "bergen"):
            self.nodes[name] = self.state.create_node(NOOP_FLWR_AID, "us", name.encode(), 30.0, name=name)
            assert self.state.activate_node(self.nodes[name], 1e6)
        self.run_id = self.state.create_run(
            "a/b", "1", "0" * 64, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        (task,) = self.state.get_tasks(run_ids=[self.run_id])
        self.state.claim_task(task.task_id)
        self.state.activate_task(task.task_id)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, self.run_id, SUPERLINK_NODE_ID
        self.orders = {}
        for name, node in self.nodes.items():
            order = Message(RecordDict(), node, "train")
            order.metadata.__dict__["_message_id"] = order.object_id
            assert self.state.store_message_ins(order) == order.object_id
            self.orders[name] = order
        self.gate = Gate(MOST, fleet_handlers.push_messages, fleet_handlers.push_object)

    def reply(self, name: str, content: bytes = b"x" * 1000) -> Message:
        """What the hospital `name` replies to its order."""
        TaskIdentity.node_id = self.nodes[name]
        array = Array(dtype="uint8", shape=(len(content),), stype="packed", data=content)
        message = Message(RecordDict({"arrays": ArrayRecord({"packed": array})}), reply_to=self.orders[name])
        message.metadata.__dict__["_message_id"] = message.object_id
        return message

    def request(self, name: str, message: Message) -> PushMessagesRequest:
        """How the SuperNode of `name` pushes it."""
        return PushMessagesRequest(
            node=Node(node_id=self.nodes[name]),
            messages_list=[message_to_proto(remove_content_from_message(message))],
            message_object_trees=[get_object_tree(message)],
            clientapp_runtime_list=[1.5],
        )

    def objects(self, name: str, message: Message, session: str) -> list[bool]:
        """Push the objects of `message`, small ones first, until one is not taken; whether each was."""
        contents = {id_: one.deflate() for id_, one in get_all_nested_objects(message).items()}
        taken: list[bool] = []
        for id_, content in sorted(contents.items(), key=lambda item: len(item[1])):
            if all(taken):
                request = PushObjectRequest(
                    node=Node(node_id=self.nodes[name]),
                    run_id=self.run_id,
                    session_id=session,
                    object_id=id_,
                    object_content=content,
                )
                taken.append(self.gate.push_object(request, self.state).stored)
        return taken

    def come(self, name: str) -> list[Message]:
        """What the coordinator gets to its order to `name`."""
        return list(self.state.get_message_res({self.orders[name].metadata.message_id}, self.run_id))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an empty database, which takes Flower a while to make."""
    state_in(folder := tmp_path_factory.mktemp("empty"))
    return folder


@pytest.fixture
def link(tmp_path: Path, empty: Path) -> SuperLink:
    return SuperLink(shutil.copytree(empty, tmp_path / "state"))


def test_an_honest_reply_passes_whole(link: SuperLink) -> None:
    message = link.reply("oslo")
    answer = link.gate.push_messages(link.request("oslo", message), link.state)
    assert set(answer.objects_to_push) == set(get_all_nested_objects(message))
    assert all(link.objects("oslo", message, answer.session_id))
    (come,) = link.come("oslo")
    assert come.metadata.message_id == message.object_id and not come.has_error()


def forge(change: Callable[[SuperLink, PushMessagesRequest], Any]) -> Callable[[SuperLink], PushMessagesRequest]:
    def forged(link: SuperLink) -> PushMessagesRequest:
        request = link.request("oslo", link.reply("oslo"))
        change(link, request)
        return request

    return forged


def in_anothers_name(link: SuperLink, request: PushMessagesRequest) -> None:
    request.CopyFrom(link.request("bergen", link.reply("bergen")))
    request.node.node_id = link.nodes["oslo"]


def an_order(link: SuperLink, request: PushMessagesRequest) -> None:
    metadata = request.messages_list[0].metadata
    metadata.reply_to_message_id, metadata.src_node_id = "", SUPERLINK_NODE_ID
    metadata.dst_node_id = link.nodes["bergen"]


def an_order_in_its_own_name(link: SuperLink, request: PushMessagesRequest) -> None:
    request.messages_list[0].metadata.reply_to_message_id = ""


def to_another_hospital(link: SuperLink, request: PushMessagesRequest) -> None:
    request.messages_list[0].metadata.dst_node_id = link.nodes["bergen"]


def to_anothers_order(link: SuperLink, request: PushMessagesRequest) -> None:
    request.messages_list[0].metadata.reply_to_message_id = link.orders["bergen"].metadata.message_id


def two_at_once(link: SuperLink, request: PushMessagesRequest) -> None:
    request.messages_list.append(request.messages_list[0])


def none(link: SuperLink, request: PushMessagesRequest) -> None:
    del request.messages_list[:]


def another_list_of_objects(link: SuperLink, request: PushMessagesRequest) -> None:
    request.message_object_trees[0].object_id = "0" * 64


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (in_anothers_name, "it sends in the name of node"),
        (an_order, "it sends in the name of node 1"),
        (an_order_in_its_own_name, "it is a request"),
        (to_another_hospital, "a hospital may reply only to the coordinator"),
        (to_anothers_order, "it replies to a request that was sent to another hospital"),
        (two_at_once, "it pushes 2 messages with 1 lists of objects"),
        (none, "it pushes 0 messages with 1 lists of objects"),
        (another_list_of_objects, "its list of objects belongs to another message"),
    ],
)
def test_a_hospital_pushes_nothing_but_its_own_reply_to_its_own_order(
    link: SuperLink, change: Callable[[SuperLink, PushMessagesRequest], Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    orders = link.state.num_message_ins()
    with caplog.at_level("WARNING", "flwr"), pytest.raises(HTTPException) as raised:
        link.gate.push_messages(forge(change)(link), link.state)
    assert raised.value.status_code == 403 and why in raised.value.detail
    assert f"what oslo pushes is refused: {raised.value.detail}" in caplog.text
    assert link.state.num_message_ins() == orders and link.state.num_message_res() == 0
    message = link.reply("oslo")  # and its own reply still passes
    session = link.gate.push_messages(link.request("oslo", message), link.state).session_id
    assert all(link.objects("oslo", message, session))


def made(value: float) -> Callable[[SuperLink, PushMessagesRequest], Any]:
    return lambda link, request: setattr(request.messages_list[0].metadata, "created_at", value)


def good_for(value: float) -> Callable[[SuperLink, PushMessagesRequest], Any]:
    return lambda link, request: setattr(request.messages_list[0].metadata, "ttl", value)


def worked(*values: float) -> Callable[[SuperLink, PushMessagesRequest], Any]:
    return lambda link, request: request.clientapp_runtime_list.__setitem__(slice(None), values)


def many_objects(link: SuperLink, request: PushMessagesRequest) -> None:
    tree = request.message_object_trees[0]
    tree.children.extend(ObjectTree(object_id=f"{number:064x}") for number in range(link.gate.most_objects))


UNFIT = [
    *(made(value) for value in (math.nan, math.inf, 1e300, time.time() + 1e6)),
    *(good_for(value) for value in (math.nan, math.inf, -1.0)),
    *(worked(value) for value in (math.nan, -math.inf, 1e300)),
    worked(1.0, 2.0),
    many_objects,
]


@pytest.mark.parametrize("change", UNFIT)
def test_a_reply_whose_numbers_are_none_is_refused_by_name_and_the_others_are_answered(
    link: SuperLink, change: Callable[[SuperLink, PushMessagesRequest], Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING", "flwr"):
        answer = link.gate.push_messages(forge(change)(link), link.state)
    assert list(answer.objects_to_push) == [] and "oslo: its reply " in caplog.text
    (come,) = link.come("oslo")
    assert come.has_error() and (come.error.reason or "").startswith("its reply ")
    assert link.state.object_store.get_object_tree(come.metadata.message_id).object_id  # the coordinator can pull it
    message = link.reply("bergen")
    session = link.gate.push_messages(link.request("bergen", message), link.state).session_id
    assert all(link.objects("bergen", message, session))
    (come,) = link.come("bergen")
    assert not come.has_error() and come.metadata.message_id == message.object_id
    (run,) = link.state.get_run_info(run_ids=[link.run_id])
    assert run.clientapp_runtime == 1.5


def test_a_reply_larger_than_allowed_is_not_stored_and_its_round_is_told_so(link: SuperLink) -> None:
    message = link.reply("oslo", np.random.default_rng(0).bytes(MOST + 1))
    session = link.gate.push_messages(link.request("oslo", message), link.state).session_id
    taken = link.objects("oslo", message, session)
    assert len(taken) > 1 and not taken[-1]
    (come,) = link.come("oslo")
    assert come.error.reason == "its reply is larger than the 0 MB that reply_megabytes in coordinator.toml allows"
    held = [id_ for id_ in get_all_nested_objects(message) if link.state.object_store.get(id_)]
    assert held == [], "what came of it takes no room any more"


def test_an_object_of_no_reply_is_refused(link: SuperLink) -> None:
    message = link.reply("oslo")
    session = link.gate.push_messages(link.request("oslo", message), link.state).session_id
    for name, of in (("bergen", session), ("oslo", ""), ("oslo", "another")):
        assert link.objects(name, message, of) == [False]
    assert all(link.objects("oslo", message, session))


def test_a_reply_that_comes_too_late_is_thrown_away_and_its_site_does_not_mind(link: SuperLink) -> None:
    # A SuperNode that is told of a failure is started again, and is let in only a minute later.
    link.state.delete_messages({link.orders["oslo"].metadata.message_id})
    request = link.request("oslo", link.reply("oslo"))
    assert list(link.gate.push_messages(request, link.state).objects_to_push) == []
    assert link.state.num_message_res() == 0
    request.clientapp_runtime_list[:] = [math.nan]
    with pytest.raises(HTTPException, match="403: its reply says that it took nan s"):
        link.gate.push_messages(request, link.state)
    message = link.reply("bergen")
    session = link.gate.push_messages(link.request("bergen", message), link.state).session_id
    (task,) = link.state.get_tasks(run_ids=[link.run_id])
    link.state.finish_task(task.task_id, "stopped", "")
    with pytest.raises(FlowerError) as ended:
        link.objects("bergen", message, session)
    with pytest.raises(FlowerError) as lost:
        link.objects("bergen", message, "of a SuperLink before this one")
    assert ended.value.code == lost.value.code == ApiErrorCode.FLEET_RUN_STATUS_NOT_ALLOWED


def test_the_gate_takes_what_a_large_model_needs() -> None:
    # A U-Net with 64 filters, its weights and two moments, in pieces of 4 MiB of which each is an array and a chunk.
    pieces = -(-3 * 31_000_000 * 4 // (4 * 1024**2))
    gate = Gate(1024 * 1_000_000, fleet_handlers.push_messages, fleet_handlers.push_object)
    assert 2 * pieces + 10 < gate.most_objects < 2000 and gate.most_bytes > 3 * 31_000_000 * 4


def test_the_superlink_is_started_with_the_gate_before_its_handlers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flwr.superlink.routers.fleet import router

    make_federation(tmp_path / "deploy", "localhost", 9443, ["oslo"])
    flower: Any = importlib.import_module("flwr.superlink.cli.flower_superlink")
    asked: list[Any] = []
    for name in ("push_messages", "push_object"):
        monkeypatch.setattr(fleet_handlers, name, lambda request, state: asked.append(request))
    monkeypatch.setattr(flower, "flower_superlink", lambda: asked.extend(sys.argv))
    monkeypatch.setattr(sys, "argv", ["superlink", str(tmp_path / "deploy" / "coordinator"), "--host=127.0.0.1"])
    superlink.main()
    assert asked == ["flower-superlink", "--host=127.0.0.1"]
    link = SuperLink(tmp_path)
    request = link.request("oslo", link.reply("oslo"))
    in_anothers_name(link, request)
    with pytest.raises(HTTPException, match="403: it sends in the name of node"):
        router.fleet_push_messages(request, link.state)
    assert asked[2:] == []
    own = PushObjectRequest(node=Node(node_id=link.nodes["oslo"]), session_id="of another", object_content=b"x")
    router.fleet_push_object(own, link.state)
    assert [(one.session_id, one.object_content) for one in asked[2:]] == [("none", b"")]
