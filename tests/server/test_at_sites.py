"""The same federation at real sites: same bits as its simulation, and it copes with sites that are not there."""

import json
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid

from clients.app import app as client_app
from fedpolyp import runs
from fedpolyp.config import Config
from fedpolyp.data.partition.assign import partition_images
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.data.source import open_source
from fedpolyp.errors import FedpolypError
from fedpolyp.hospital import masking
from fedpolyp.privacy.fixed_point import encode
from fedpolyp.privacy.words import noisy_scores
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.runs import RunFolder
from fedpolyp.simulation.records import plain_request
from fedpolyp.sites.folders import make_federation
from fedpolyp.sites.handover import COORDINATOR
from fedpolyp.sites.progress import new_lines, progress_file
from fedpolyp.watcher import Watcher
from server.app import at_sites
from server.federation import run_on
from tests.cli.site.called import fedpolyp
from tests.real_sites import RUN, draw_images
from tests.same_bits import equal
from tests.serial_grid import SerialGrid
from tests.tiny import Notes, federate, final, request_of, same_state, tiny_config, weights


class SitesGrid(SerialGrid):
    """Nodes that are sites, each with a folder of its own; those in `away` are not connected."""

    def __init__(self, deploy: Path, sites: list[str]) -> None:
        super().__init__(client_app, len(sites))
        self.deploy = deploy
        self.sites = dict(enumerate(sites, 101))
        self.away: set[str] = set()

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [NodeInfo(name=name, node_id=number) for number, name in self.sites.items() if name not in self.away]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids: list[str] = []
        for message in messages:
            name = self.sites[message.metadata.dst_node_id]
            self.node_config = {"site": str(self.deploy / name / "site.toml")}
            ids += super().push_messages([message])
        return ids


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """An experiment on the images of all sites, in a folder that nobody changes."""
    source = draw_images(tmp_path_factory.mktemp("everybody") / "all", 40)
    return tiny_config(data__source=str(source), federation__rounds=2)


def deploy(tmp_path: Path, config: Config, partition: Partition) -> Path:
    """Site folders that hold just what `partition` assigns to each hospital."""
    out = tmp_path / "deploy"
    make_federation(out, "localhost", 9443, sorted(partition.hospitals))
    for name, own in partition.hospitals.items():
        for part in ("images", "masks"):
            (out / name / "data" / part).mkdir(parents=True)
            for id in (*own.train, *own.val, *own.test):
                source = Path(str(config.data.source)) / part / f"{id}.png"
                shutil.copyfile(source, out / name / "data" / part / source.name)
        (out / name / "split.json").write_text(json.dumps(own.__dict__))
        text = (out / name / "site.toml").read_text()
        text = text.replace('data = ""', 'data = "data"').replace('file = ""', 'file = "split.json"')
        (out / name / "site.toml").write_text(text)
    return out


def run_at_sites(
    folder: Path,
    config: Config,
    partition: Partition,
    grid: Grid,
    heldout: bool = True,
    watcher: Watcher | None = None,
    roster: str = "",
) -> RunFolder:
    store = open_source(config.data, config.data_seed)
    known = Partition(
        partition.heldout if heldout else (), {name: HospitalImages((), (), ()) for name in partition.hospitals}
    )
    run = runs.create(folder, config, known) if not folder.exists() else RunFolder(folder)
    seen = store if heldout else None
    stop = threading.Event()
    run_on(Experiment(config, run, seen, known, watcher or Watcher(), stop, RUN, roster=roster), grid)
    return run


@pytest.mark.parametrize(
    "moments", ["average", pytest.param("keep", marks=pytest.mark.slow), pytest.param("reset", marks=pytest.mark.slow)]
)
def test_sites_and_simulation_on_the_same_partition_give_the_same_bits(
    tmp_path: Path, everybody: Config, moments: str
) -> None:
    training = everybody.training.model_copy(update={"optimizer_state": moments})
    config = everybody.model_copy(update={"training": training})
    partition = partition_images(open_source(config.data, config.data_seed).records, config)
    simulated = runs.create(tmp_path / "simulated", config, partition)
    federate(simulated, config)
    grid = SitesGrid(deploy(tmp_path, config, partition), sorted(partition.hospitals))
    real = run_at_sites(tmp_path / "real", config, partition, grid)
    assert equal(weights(real, config), weights(simulated, config))
    scores = ("round", "dice", "iou", "loss", "val_dice", "hospitals", "refused")
    for here, there in zip(real.rounds(), simulated.rounds(), strict=True):
        assert [here[name] for name in scores] == [there[name] for name in scores]


@pytest.fixture
def small(tmp_path: Path, everybody: Config) -> tuple[Config, Partition, SitesGrid]:
    config = everybody
    partition = partition_images(open_source(config.data, config.data_seed).records, config)
    return config, partition, SitesGrid(deploy(tmp_path, config, partition), sorted(partition.hospitals))


def test_the_coordinator_tells_sites_no_folder_of_its_own(
    tmp_path: Path, small: tuple[Config, Partition, SitesGrid]
) -> None:
    config, partition, grid = small
    run_at_sites(tmp_path / "real", config, partition, grid)
    assert grid.asked and all(plain_request(asked.content) for asked in grid.asked)
    for folder in (str(tmp_path), str(Path(str(config.data.source)).parent)):
        assert not [asked for asked in grid.asked if folder in str(plain_request(asked.content))]


def test_without_a_held_out_set_the_sites_own_tests_are_reported(
    tmp_path: Path, small: tuple[Config, Partition, SitesGrid]
) -> None:
    config, partition, grid = small
    run = run_at_sites(tmp_path / "real", config, partition, grid, heldout=False)
    for record in run.rounds():
        own = [record["hospitals"][name]["test_dice"] for name in partition.hospitals]
        images = [len(partition.hospitals[name].test) for name in partition.hospitals]
        mean = sum(dice * count for dice, count in zip(own, images, strict=True)) / sum(images)
        assert record["dice"] == pytest.approx(mean) and record["loss"] > 0
    rows = run.images_file.read_text()
    assert "heldout" not in rows and "patient" not in rows and "test:hospital-1,00000" in rows


def test_a_site_that_reports_more_images_than_coordinator_toml_registers_does_not_count(
    tmp_path: Path, small: tuple[Config, Partition, SitesGrid], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, partition, grid = small
    config = config.model_copy(update={"federation": config.federation.model_copy(update={"rounds": 1})})
    known = Partition(partition.heldout, {name: HospitalImages((), (), ()) for name in partition.hospitals})
    store = open_source(config.data, config.data_seed)
    run = runs.create(tmp_path / "real", config, known, store.path)
    sizes = {name: (len(own.train), len(own.train) + len(own.val)) for name, own in partition.hospitals.items()}
    one = sizes["hospital-2"][1] - 1
    settings = grid.deploy / "coordinator" / "coordinator.toml"
    settings.write_text(f"{settings.read_text()}\n[images]\nhospital-1 = 1000\nhospital-2 = {one}\n")
    monkeypatch.setenv(COORDINATOR, str(settings.parent))
    at_sites(grid, run, "1")
    last = run.rounds()[1]
    reasons = [refusal["reason"] for refusal in last["refused"] if refusal["hospital"] == "hospital-2"]
    train, both = sizes["hospital-2"]
    assert f"it reports {train} train images, {both} with its other sets, of {one} registered" in reasons
    trained = {name: own["images"] for name, own in last["hospitals"].items() if "train_loss" in own}
    assert trained == {name: sizes[name][0] for name in ("hospital-1", "hospital-3")}


@pytest.mark.slow
def test_a_site_that_is_not_connected_is_left_out_and_named(
    tmp_path: Path, small: tuple[Config, Partition, SitesGrid], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, partition, grid = small
    monkeypatch.setattr("server.federation._SEATS_TIMEOUT", 0.0)
    grid.away = {"hospital-2"}
    heard = Notes()
    run = run_at_sites(tmp_path / "real", config, partition, grid, watcher=heard)
    last = run.rounds()[-1]
    assert sorted(last["hospitals"]) == ["hospital-1", "hospital-3"]
    assert last["refused"] == [{"hospital": "hospital-2", "reason": "it is not connected"}]
    assert heard.notes[0] == "round 0: the reply of hospital-2 is rejected: it is not connected"


def test_a_run_that_lacks_sites_waits_and_then_says_which(
    tmp_path: Path, small: tuple[Config, Partition, SitesGrid]
) -> None:
    config, partition, grid = small
    config = config.model_copy(update={"federation": config.federation.model_copy(update={"round_timeout": 0.2})})
    grid.away = {"hospital-1", "hospital-2"}
    with pytest.raises(FedpolypError, match="^not connected for 0 s: hospital-1, hospital-2$"):
        run_at_sites(tmp_path / "real", config, partition, grid)


@pytest.mark.slow
def test_a_run_that_lost_its_sites_goes_on_to_the_same_bits(
    tmp_path: Path, small: tuple[Config, Partition, SitesGrid]
) -> None:
    config, partition, grid = small
    whole = run_at_sites(tmp_path / "whole", config, partition, grid)
    answer = grid.client_app

    def cut(message: Message, context: Context) -> Message:
        if (request_of(message).kind, request_of(message).round) == ("train", 2):
            raise ConnectionError("the link is cut")
        return answer(message, context)

    grid.client_app = cut  # type: ignore[assignment]
    with pytest.raises(FedpolypError, match="round 2 stopped"):
        run_at_sites(tmp_path / "real", config, partition, grid)
    grid.client_app = answer
    again = run_at_sites(tmp_path / "real", config, partition, grid)
    assert equal(weights(again, config), weights(whole, config))


@pytest.mark.slow
def test_a_resumed_run_gets_the_trainings_whose_replies_were_lost(
    tmp_path: Path, small: tuple[Config, Partition, SitesGrid], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, partition, grid = small
    whole = run_at_sites(tmp_path / "whole", config, partition, grid)
    for name in partition.hospitals:
        shutil.rmtree(grid.deploy / name / "private" / "state")
    answer = grid.client_app

    def lose(message: Message, context: Context) -> Message:
        reply = answer(message, context)
        if (request_of(message).kind, request_of(message).round) == ("train", 2):
            raise ConnectionError("the link is cut")
        return reply

    grid.client_app = lose  # type: ignore[assignment]
    with pytest.raises(FedpolypError, match="round 2 stopped"):
        run_at_sites(tmp_path / "real", config, partition, grid)
    grid.client_app = answer
    monkeypatch.setattr("fedpolyp.hospital.work.train", lambda *_: pytest.fail("it trained again"))
    again = run_at_sites(tmp_path / "real", config, partition, grid)
    assert equal(weights(again, config), weights(whole, config))


def unwatched(tmp_path: Path, config: Config, partition: Partition, heldout: bool) -> RunFolder:
    """A run folder as 'site run' makes it."""
    nobody = {name: HospitalImages((), (), ()) for name in partition.hospitals}
    store = open_source(config.data, config.data_seed)
    return runs.create(tmp_path / "real", config, Partition(partition.heldout if heldout else (), nobody), store.path)


@pytest.mark.slow
@pytest.mark.parametrize("heldout", [True, False])
def test_a_run_that_ended_unwatched_is_finished_without_its_sites(
    tmp_path: Path, small: tuple[Config, Partition, SitesGrid], heldout: bool
) -> None:
    config, partition, grid = small
    run = unwatched(tmp_path, config, partition, heldout)
    at_sites(grid, run, "7")
    assert [*run.events.glob("events.*")], "no TensorBoard events"
    events = new_lines(progress_file(run), 0)[0]
    assert events[-1] == {"event": "finished", "flower_run": "7"} and {event["flower_run"] for event in events} == {"7"}
    # Nobody serves here: what is left to do needs neither the coordinator nor the sites.
    said = fedpolyp("run", "--folder", str(grid.deploy / "coordinator"), "--resume", str(run.path))
    assert (
        "Dice" in said and run.model_file("last").exists() and run.model_file("best").exists() and run.curves.exists()
    )
    assert (run.path / "predictions.png").exists() == heldout


def test_a_failure_before_the_first_message_is_told_to_who_follows(
    tmp_path: Path, small: tuple[Config, Partition, SitesGrid]
) -> None:
    config, partition, grid = small
    run = unwatched(tmp_path, config, partition, heldout=False)
    with run.locked(), pytest.raises(FedpolypError):
        at_sites(grid, run, "7")
    run.partition_file.write_text("{")
    with pytest.raises(FedpolypError):
        at_sites(grid, run, "8")
    locked, damaged = new_lines(progress_file(run), 0)[0]
    assert locked == {"event": "failed", "flower_run": "7", "reason": f"another process is working on {run.path}"}
    assert damaged["event"] == "failed" and damaged["flower_run"] == "8" and damaged["reason"]


def test_three_sites_train_with_privacy_until_their_limit_and_no_further_run(tmp_path: Path, everybody: Config) -> None:
    """Only one of them has enough left for a noisy score, and the run is finished all the same."""
    private = {"privacy__mode": "local", "algorithm__name": "fedadam", "model__normalization": "group"}
    source = everybody.data.source
    config = tiny_config(data__source=source, federation__rounds=2, privacy__score_epsilon=2.0, **private)
    partition = partition_images(open_source(config.data, config.data_seed).records, config)
    folder = deploy(tmp_path, config, partition)
    for file in folder.glob("*/site.toml"):
        text = file.read_text().replace("# declared_units =", "declared_units = 12")
        text = text.replace("# declared_test_units =", "declared_test_units = 3")
        most = 9.0 if file.parent.name == min(partition.hospitals) else 8.0
        file.write_text(text.replace("# epsilon =", f"epsilon = {most}"))
    sites = sorted(partition.hospitals)
    run = run_at_sites(tmp_path / "real", config, partition, SitesGrid(folder, sites))
    last = run.rounds()[2]
    for name, own in last["hospitals"].items():
        assert own["units"] == 12 and own["epsilon"] == pytest.approx(8.574 if name == sites[0] else 8.0, abs=1e-3)
    assert noisy_scores(last).keys() == {sites[0]}
    assert [refused["hospital"] for refused in last["refused"]] == sites[1:]
    for one in last["refused"]:
        assert one["reason"].startswith("it gives no noisy score: ") and "spends at most epsilon 8" in one["reason"]
    ledgers = [(folder / name / "private" / "privacy.jsonl").read_text().splitlines() for name in sites]
    assert [len(ledger) for ledger in ledgers] == [3, 2, 2]
    with pytest.raises(
        FedpolypError, match="0 of 3 hospitals sent usable replies.*spends at most epsilon 8 at delta 0.001"
    ):
        run_at_sites(tmp_path / "again", config.model_copy(update={"seed": 1}), partition, SitesGrid(folder, sites))


def secured(tmp_path: Path, **settings: Any) -> tuple[Config, Partition]:
    """Secure sums of three hospitals with few images."""
    summed = {"privacy__secure_sums": True, "training__optimizer_state": "reset", "training__local_epochs": 1}
    source = str(draw_images(tmp_path / "all", 30))
    config = tiny_config(**summed | {"data__source": source, "federation__rounds": 1} | settings)
    return config, partition_images(open_source(config.data, config.data_seed).records, config)


def test_secure_sums_at_sites_give_the_simulations_bits_and_nothing_that_travels_is_an_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, partition = secured(tmp_path)
    simulated = runs.create(tmp_path / "simulated", config, partition)
    federate(simulated, config)
    updates: list[np.ndarray] = []

    def listen(groups: Any, weight: int, members: int) -> Any:
        updates.extend(array for arrays in groups.values() for array in arrays.values())
        updates.append(words := encode(groups, weight, members))
        return words

    monkeypatch.setattr(masking, "encode", listen)
    folder = deploy(tmp_path, config, partition)
    grid = SitesGrid(folder, sorted(partition.hospitals))
    sent: list[bytes] = []

    def record(asked: Message, reply: Message) -> Message:
        for content in (asked.content, reply.content):
            sent.extend(array.data for known in content.array_records.values() for array in known.values())
        return reply

    grid.spoil = record
    roster = (folder / "coordinator" / "roster.txt").read_text()
    real = run_at_sites(tmp_path / "real", config, partition, grid, roster=roster)
    assert same_state(final(real, config), final(simulated, config))
    scores = ("round", "dice", "val_dice", "hospitals", "refused")
    for here, there in zip(real.rounds(), simulated.rounds(), strict=True):
        assert [here[name] for name in scores] == [there[name] for name in scores]
    moved = [array.tobytes() for array in updates if array.size >= 4 and array.any()]
    assert len(moved) > 3 * 20 and len(sent) > 3 * 4
    assert not any(update in data for update in moved for data in sent)
    openings = [file.read_text() for file in folder.glob("*/private/openings.jsonl")]
    assert len(set(openings)) == 3 and all(text.count("\n") == 1 for text in openings)


@pytest.mark.slow
def test_sites_share_the_noise_of_a_sum_until_their_limit(tmp_path: Path) -> None:
    joint = {"privacy__mode": "joint", "algorithm__name": "fedadam", "model__normalization": "group"}
    config, partition = secured(tmp_path, federation__rounds=2, **joint)
    folder, sites = deploy(tmp_path, config, partition), sorted(partition.hospitals)
    for file in folder.glob("*/site.toml"):
        text = file.read_text().replace("# declared_units =", "declared_units = 9")
        file.write_text(
            text.replace("# epsilon =", "epsilon = 8.0").replace("secure_sums = false", "secure_sums = true")
        )
    roster = (folder / "coordinator" / "roster.txt").read_text()
    run = run_at_sites(tmp_path / "real", config, partition, SitesGrid(folder, sites), roster=roster)
    for own in run.rounds()[2]["hospitals"].values():
        assert own == {"units": 9, "epsilon": pytest.approx(8.0)}
    for name in sites:
        ledger = (folder / name / "private" / "privacy.jsonl").read_text().splitlines()
        assert [json.loads(line)["sharers"] for line in ledger] == [2, 2]
    assert "lost" not in run.rounds()[1] and "lost" not in run.rounds()[2]
    other = config.model_copy(update={"seed": 1})
    with pytest.raises(FedpolypError, match="0 of 3 hospitals sent usable replies.*spends at most epsilon 8"):
        run_at_sites(tmp_path / "again", other, partition, SitesGrid(folder, sites), roster=roster)
