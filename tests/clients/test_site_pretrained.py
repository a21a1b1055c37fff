"""A site trains a model with a pretrained encoder as it is sent: it needs no file of weights, and is told of none."""

import importlib.util
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fedpolyp import network, runs
from fedpolyp.config import Config
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.errors import Refusal
from fedpolyp.exchange.replies import Reply, Sent
from fedpolyp.exchange.requests import Request
from fedpolyp.model import efficientnet_lite
from fedpolyp.model.arrays import mismatch
from fedpolyp.rounds.asking import Asking
from fedpolyp.rounds.counted import Counted
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.simulation.records import from_record
from fedpolyp.sites.limits import Limits
from fedpolyp.training import shared_trainer
from fedpolyp.watcher import Watcher
from tests.model.test_pretrained_training import SMALL
from tests.real_sites import make_sites, send, tiny, training


@pytest.fixture(autouse=True)
def _small_encoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(efficientnet_lite, "_TO_STRIDE_16", SMALL)
    network._network.cache_clear()
    yield
    network._network.cache_clear()


@pytest.mark.slow
def test_a_site_trains_without_the_package_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if "lite0" in name else find(name, *a))
    site = make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"
    config = tiny(model__encoder="efficientnet-lite0")
    for asked in (config, config.model_copy(update={"model": config.model.architecture})):
        start = shared_trainer(asked).start
        change = from_record(send(site, training(config=asked), start=start).content.array_records["model"])
        assert mismatch(change, {name: array.shape for name, array in start.model.items()}) is None
        assert all(change[name].any() for name in change if name.endswith("kernel"))


class _Listening:
    """An exchange that keeps what is to be sent."""

    def connect(self, hospitals: Sequence[str], at_least: int) -> None:
        raise NotImplementedError

    def send(self, requests: Sequence[tuple[Request, Sent]], arrived: Callable[[Reply], None]) -> Iterator[Reply]:
        self.asked = [request for request, _ in requests]
        return iter(())


def test_a_request_to_a_site_names_neither_a_file_of_weights_nor_its_hash(tmp_path: Path) -> None:
    secret = {"model__encoder_weights": "/home/somebody/own.weights.h5", "model__encoder_sha256": "0" * 64}
    config = tiny(model__encoder="mobilenet-v2", model__encoder_rate=0.5, **secret)
    nobody = HospitalImages((), (), ())
    run = runs.create(tmp_path / "run", config, Partition((), {"oslo": nobody}))
    experiment = Experiment(config, run, None, run.partition(), Watcher(), threading.Event(), "name")
    exchange = _Listening()
    Asking(experiment, exchange, Counted()).score(1, {"model": {}}, "val", ["oslo"])
    (asked,) = exchange.asked
    sent = Config.model_validate_json(asked.config).model
    assert "somebody" not in asked.config and sent.encoder_sha256 is None
    assert (sent.encoder, sent.encoder_rate, sent.encoder_weights) == ("mobilenet-v2", 0.5, "random")
    Limits().check(Config.model_validate_json(asked.config))


def test_a_request_that_names_a_file_of_weights_is_refused() -> None:
    config = tiny(model__encoder="mobilenet-v2", model__encoder_weights="/etc/secret.h5")
    with pytest.raises(
        Refusal, match="^a request must not name a file: the weights of an encoder come with the request$"
    ):
        Limits().check(config)


def test_an_encoder_that_a_site_does_not_allow_is_refused() -> None:
    limits = Limits(encoders=("plain", "efficientnet-lite0"))
    limits.check(tiny(model__encoder="efficientnet-lite0"))
    said = "^this site allows the encoders plain, efficientnet-lite0; the request asks for resnet50-v2$"
    with pytest.raises(Refusal, match=said):
        limits.check(tiny(model__encoder="resnet50-v2"))


def test_a_training_that_takes_more_memory_than_a_site_allows_is_refused() -> None:
    Limits(memory=1.5).check(tiny(data__image_size=128, model__encoder="efficientnet-lite0"))
    with pytest.raises(Refusal, match=r"^this site allows memory up to 1\.5; the request asks for 1\.9$"):
        Limits(memory=1.5).check(tiny(data__image_size=128, training__batch_size=8, model__encoder="resnet50-v2"))
