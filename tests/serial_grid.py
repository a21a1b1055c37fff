"""A Flower grid without Flower's engine: calls the ClientApp in this process, one message after the other."""

import copy
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity


class SerialGrid(Grid):
    """Answers each message when it is pushed; `spoil` may change a reply, or raise in the hospital's place."""

    def __init__(
        self,
        client_app: ClientApp,
        nodes: int,
        spoil: Callable[[Message, Message], Message] = lambda asked, reply: reply,
        node_config: dict[str, Any] | None = None,
    ) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self.client_app = client_app
        self.nodes = nodes
        self.spoil = spoil
        self.node_config: dict[str, Any] = {"partition-id": 0} if node_config is None else node_config
        self.asked: list[Message] = []
        self._replies: dict[str, Message] = {}

    def set_run(self, run: object) -> None:
        pass

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return range(1, self.nodes + 1)

    def get_nodes(self) -> Iterable[Any]:
        # In the order of their registration, which is not that of their random numbers.
        return [
            SimpleNamespace(node_id=number, name="", registered_at=f"{9 - number}") for number in self.get_node_ids()
        ]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            # All messages of an exchange share one content; a hospital that changed it would change the others'.
            asked = Message(copy.deepcopy(message.content), message.metadata.dst_node_id, message.metadata.message_type)
            asked.metadata.__dict__["_message_id"] = str(uuid4())
            context = Context(1, message.metadata.dst_node_id, self.node_config, RecordDict(), {})
            try:
                reply = self.spoil(asked, self.client_app(asked, context))
            except Exception as error:
                reply = Message(Error(code=0, reason=f"{type(error).__name__}: {error}"), reply_to=asked)
            self.asked.append(asked)
            self._replies[asked.metadata.message_id] = reply
            ids.append(asked.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(known) for known in message_ids if known in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))
