"""A small federation of real sites for tests: folders, drawn images as files, and the messages a coordinator sends."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from clients.app import app
from fedpolyp.algorithms.base import Start
from fedpolyp.config import Config, load, rate_of
from fedpolyp.data import phantom
from fedpolyp.exchange.requests import Evaluate, Request, Train
from fedpolyp.simulation.records import to_content, to_record
from fedpolyp.sites.folders import make_federation
from fedpolyp.training import shared_trainer

SITES = ("oslo", "bergen", "tromso")
RUN = "0123456789abcdef" * 2
SETTINGS: dict[str, Any] = {
    "data.image_size": 32,
    "model.base_filters": 4,
    "training.batch_size": 4,
    "training.optimizer": "adam",
    "federation.rounds": 3,
}


def draw_images(folder: Path, count: int, first: int = 0, size: int = 64) -> Path:
    """Write phantom frames `first` and on, in the layout that a hospital has."""
    images, masks, _ = phantom.draw(first + count, size, 3, 0)
    for part, pictures in (("images", images[..., ::-1]), ("masks", masks * 255)):
        (folder / part).mkdir(parents=True)
        for number in range(first, first + count):
            cv2.imwrite(str(folder / part / f"patient-{number:03d}.png"), pictures[number])
    return folder


def make_sites(
    out: Path, images: int = 12, sites: Sequence[str] = SITES, port: int = 9443, host: str = "localhost"
) -> Path:
    """The folders of a federation on loopback, or with its coordinator at `host`, each site with images of its own."""
    make_federation(out, host, port, sites)
    for number, site in enumerate(sites):
        folder = draw_images(out / "images-of" / site, images, number * images)
        file = out / site / "site.toml"
        file.write_text(file.read_text().replace('data = ""', f"data = {json.dumps(str(folder))}"))
    return out


def tiny(**overrides: Any) -> Config:
    """The config of a tiny experiment; `section__name=value` overrides."""
    return load(overrides=SETTINGS | {name.replace("__", "."): value for name, value in overrides.items()})


def training(site: str = "oslo", round: int = 1, config: Config | None = None, **details: Any) -> Train:
    """A request to train, as the coordinator sends it to a site."""
    config = config or tiny()
    given: dict[str, Any] = {"run": RUN, "learning_rate": rate_of(config), **details}
    return Train(site, round, config.model_dump_json(), **given)


def scoring(site: str = "oslo", round: int = 1, config: Config | None = None, **details: Any) -> Evaluate:
    """A request to score, as the coordinator sends it to a site."""
    return Evaluate(site, round, (config or tiny()).model_dump_json(), **{"run": RUN} | details)


def send(site: Path, request: Request, kind: str = "", start: Start | None = None) -> Message:
    """What the site of the folder `site` replies to a request, which goes as a message of `kind`, or of its own.

    With it goes what `start`, or that of the tiny model, begins with: weights, and moments where they are averaged.
    """
    start = start or shared_trainer(tiny()).start
    sent = {"model": start.model}
    if isinstance(request, Train) and '"optimizer_state":"average"' in request.config:
        sent["optimizer"] = start.optimizer
    content = to_content(request, {group: to_record(own) for group, own in sent.items()})
    return deliver(site, content, kind or request.kind)


def deliver(site: Path, content: RecordDict, kind: str = "train") -> Message:
    """What the site of the folder `site` replies to a message with this content."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    message = Message(content, 1, kind)
    message.metadata.__dict__["_message_id"] = "asked"
    return app(message, Context(1, 1, {"site": str(site / "site.toml")}, RecordDict(), {}))
