"""The ClientApp: a hospital trains the global model on its own images, or scores it on them."""

import os

from flwr.app import Context, Message, MetricRecord, RecordDict

from clients import private_state
from clients.audited import AuditedApp
from clients.hospital import Hospital, hospital_in_simulation
from clients.messages import Order, from_record, order_of, to_record
from clients.site import hospital_at, is_site, settings_of
from fedpolyp import metrics
from fedpolyp.model.arrays import Arrays
from fedpolyp.training import shared_trainer

app = AuditedApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on the hospital's training images; reply with the new weights and how many images they are worth."""
    order = order_of(message.content)
    hospital = _hospital(order, context)
    across_rounds = hospital.config.training.optimizer_state
    optimizer = None
    if across_rounds == "keep":
        optimizer = private_state.read_before(hospital.state, order.round)
    elif across_rounds == "average" and "optimizer" in message.content:
        optimizer = from_record(message.content.array_records["optimizer"])
    images, masks = hospital.images("train")
    trained = shared_trainer(hospital.config).train(
        from_record(message.content.array_records["arrays"]),
        images,
        masks,
        hospital=hospital.name,
        round=order.round,
        learning_rate=order.learning_rate,
        optimizer=optimizer,
    )
    if across_rounds == "keep":
        private_state.write(hospital.state, order.round, trained.optimizer, order.keep_state_from)
    content = RecordDict(
        {
            "arrays": to_record(trained.arrays),
            "metrics": MetricRecord(
                {
                    "images": trained.images,
                    "train_loss": trained.loss,
                    "steps": trained.steps,
                    "process": os.getpid(),
                }
            ),
        }
    )
    if across_rounds == "average":
        content["optimizer"] = to_record(trained.optimizer)
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score the global model on one of the hospital's own sets; reply with each image's counts and distances."""
    order = order_of(message.content)
    hospital = _hospital(order, context)
    images, masks = hospital.images(order.score_set)
    trainer, arrays = shared_trainer(hospital.config), from_record(message.content.array_records["arrays"])
    scores: Arrays
    if order.distances:
        predicted = trainer.predict(arrays, images)
        scores = {"counts": metrics.count_pixels(predicted, masks), "hd95": metrics.hd95(predicted, masks)}
    else:
        evaluation = trainer.evaluate(arrays, images, masks)
        scores = {"counts": evaluation.counts, "losses": evaluation.losses}
    content = RecordDict({"scores": to_record(scores), "metrics": MetricRecord({"process": os.getpid()})})
    return Message(content=content, reply_to=message)


def _hospital(order: Order, context: Context) -> Hospital:
    if is_site(context.node_config):
        return hospital_at(settings_of(context.node_config), order)
    return hospital_in_simulation(order, context.node_config)
