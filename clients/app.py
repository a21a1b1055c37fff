"""The ClientApp: passes a message to the hospital's code, in this process or, at a site, in a warm worker."""

from flwr.app import Context, Message, RecordDict

from clients import worker
from clients.audited import AuditedApp

app = AuditedApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """See `clients.work.train`."""
    return Message(content=_done("train", message.content, context), reply_to=message)


@app.train("unmask")
def unmask(message: Message, context: Context) -> Message:
    """See `clients.work.unmask`."""
    return Message(content=_done("unmask", message.content, context), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """See `clients.work.evaluate`."""
    return Message(content=_done("evaluate", message.content, context), reply_to=message)


def _done(kind: str, content: RecordDict, context: Context) -> RecordDict:
    if file := worker.file_of(context.node_config):
        return worker.ask(file, kind, content, context.node_config)

    from clients.work import WORK  # loads TensorFlow, which takes seconds: not if there is a worker

    return WORK[kind](content, context.node_config)
