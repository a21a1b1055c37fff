"""What a hospital does when it is asked: train the global model on its own images, or score it on them."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from flwr.app import MetricRecord, RecordDict

from clients import private_state
from clients.hospital import Hospital, hospital_in_simulation
from clients.kept_reply import KeptReply, drop_delivered
from clients.messages import Order, arrays_of, order_of, to_record
from clients.site import hospital_at, is_site, settings_of
from fedpolyp import metrics
from fedpolyp.model.arrays import Arrays
from fedpolyp.sites import audit
from fedpolyp.training import shared_trainer


def train(content: RecordDict, node_config: Mapping[str, Any]) -> RecordDict:
    """Train on the hospital's training images; reply with the new weights and how many images they are worth.

    A site answers an order that it has carried out already with the reply that it has kept.
    """
    order = order_of(content)
    hospital = _hospital(order, node_config)
    if not is_site(node_config):
        return _trained(order, hospital, content)
    drop_delivered(hospital.state, order.round)
    kept = KeptReply.of(hospital.state, order, content)
    if (reply := kept.read()) is not None:
        about = {"run": order.run, "message": "train", "round": order.round}
        audit.append(settings_of(node_config).audit, "found", about | {"reason": "trained before; that reply is sent"})
        return reply
    reply = _trained(order, hospital, content)
    kept.write(reply)
    return reply


def _trained(order: Order, hospital: Hospital, content: RecordDict) -> RecordDict:
    trainer = shared_trainer(hospital.config)
    across_rounds = hospital.config.training.optimizer_state
    optimizer = None
    if across_rounds == "keep":
        optimizer = private_state.read_before(hospital.state, order.round)
    elif across_rounds == "average" and "optimizer" in content:
        optimizer = arrays_of(content, "optimizer", trainer.fresh_optimizer)
    images, masks = hospital.images("train")
    trained = trainer.train(
        arrays_of(content, "arrays", trainer.untrained),
        images,
        masks,
        hospital=hospital.name,
        round=order.round,
        learning_rate=order.learning_rate,
        optimizer=optimizer,
    )
    if across_rounds == "keep":
        private_state.write(hospital.state, order.round, trained.optimizer, order.keep_state_from)
    about = MetricRecord(
        {"images": trained.images, "train_loss": trained.loss, "steps": trained.steps, "process": os.getpid()}
    )
    reply = RecordDict({"arrays": to_record(trained.arrays), "metrics": about})
    if across_rounds == "average":
        reply["optimizer"] = to_record(trained.optimizer)
    return reply


def evaluate(content: RecordDict, node_config: Mapping[str, Any]) -> RecordDict:
    """Score the global model on one of the hospital's own sets; reply with each image's counts and distances."""
    order = order_of(content)
    hospital = _hospital(order, node_config)
    if is_site(node_config):
        drop_delivered(hospital.state, order.round)
    images, masks = hospital.images(order.score_set)
    trainer = shared_trainer(hospital.config)
    arrays = arrays_of(content, "arrays", trainer.untrained)
    scores: Arrays
    if order.distances:
        predicted = trainer.predict(arrays, images)
        scores = {"counts": metrics.count_pixels(predicted, masks), "hd95": metrics.hd95(predicted, masks)}
    else:
        evaluation = trainer.evaluate(arrays, images, masks)
        scores = {"counts": evaluation.counts, "losses": evaluation.losses}
    return RecordDict({"scores": to_record(scores), "metrics": MetricRecord({"process": os.getpid()})})


WORK: dict[str, Callable[[RecordDict, Mapping[str, Any]], RecordDict]] = {"train": train, "evaluate": evaluate}


def _hospital(order: Order, node_config: Mapping[str, Any]) -> Hospital:
    if is_site(node_config):
        return hospital_at(settings_of(node_config), order)
    return hospital_in_simulation(order, node_config)
