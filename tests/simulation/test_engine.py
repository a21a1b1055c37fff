"""Federations through Flower's simulation engine and Ray."""

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from ray.cluster_utils import Cluster

from clients.app import app as client_app
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.config import Config
from fedpolyp.data.source import open_source
from fedpolyp.errors import FedpolypError, Interrupted
from fedpolyp.planning import Machine
from fedpolyp.rounds import here
from fedpolyp.runs import RunFolder
from fedpolyp.simulation import cluster, engine
from fedpolyp.watcher import Watcher
from tests.same_bits import equal
from tests.tiny import Notes, federate, final, tiny_config, tiny_run


def same(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether both have the same bits, those of the optimizer's state among them."""
    return one.state.keys() == other.state.keys() and all(
        equal(one.state[group], other.state[group]) for group in one.state
    )


def simulate(run: RunFolder, config: Config, watcher: Watcher | None = None) -> None:
    store = open_source(config.data, config.seed)
    engine.run(config, run, store, run.partition(), watcher or Watcher())


@pytest.mark.own_process
def test_same_bits_with_one_actor_with_two_and_on_the_serial_grid(
    tmp_path: Path, ray_processes: Callable[[], dict[int, str]]
) -> None:
    one, two = (tiny_config(runtime__actors=actors, federation__rounds=2) for actors in (1, 2))
    runs = [tiny_run(tmp_path / name, one) for name in ("one", "two", "serial")]
    simulate(runs[0], one)
    simulate(runs[1], two)
    federate(runs[2], one)
    results = [final(run, one) for run in runs]
    assert same(results[0], results[1])
    assert same(results[0], results[2])
    assert runs[0].images_file.read_text() == runs[1].images_file.read_text()
    assert ray_processes() == {}


@pytest.mark.own_process
@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["scaffold", "fedbn", "krum", "cyclic", "fedavg, secure sums"])
def test_every_kind_of_algorithm_has_the_same_bits_with_one_actor_with_two_and_without_ray(
    tmp_path: Path, algorithm: str
) -> None:
    name, _, secure = algorithm.partition(", ")
    settings: dict[str, Any] = {"algorithm__name": name, "hospitals__count": 5, "training__local_epochs": 1}
    if secure:
        settings |= {"privacy__secure_sums": True, "training__optimizer_state": "keep"}
    one, two = (tiny_config(**settings, runtime__actors=actors) for actors in (1, 2))
    runs = [tiny_run(tmp_path / name, one) for name in ("one", "two", "here")]
    simulate(runs[0], one)
    simulate(runs[1], two)
    here.run(one, runs[2], open_source(one.data, one.seed), runs[2].partition(), Watcher())
    results = [final(run, one) for run in runs]
    assert same(results[0], results[1])
    assert same(results[0], results[2])
    assert runs[0].images_file.read_text() == runs[1].images_file.read_text() == runs[2].images_file.read_text()


class Nodes(Watcher):
    """Which raylets, one a node, have an actor, and how many actors there are, when the first round is complete."""

    def __init__(self, ray_processes: Callable[[], dict[int, str]]) -> None:
        self.ray_processes = ray_processes
        self.raylets: list[int] = []

    def finished_round(self, record: dict[str, Any]) -> None:
        if record["round"] == 1:
            actors = [process for process, command in self.ray_processes().items() if "ClientAppActor" in command]
            stats = [Path(f"/proc/{process}/stat").read_text() for process in actors]
            self.raylets = [int(stat.rpartition(")")[2].split()[1]) for stat in stats]


@contextlib.contextmanager
def ray_cluster(head_cpus: int) -> Iterator[Cluster]:
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": head_cpus, "include_dashboard": False})
    try:
        yield nodes
    finally:
        nodes.shutdown()


@pytest.mark.own_process
@pytest.mark.slow
def test_a_cluster_of_two_ray_nodes_gives_the_bits_of_one_machine(
    tmp_path: Path, ray_processes: Callable[[], dict[int, str]]
) -> None:
    local = tiny_config()
    runs = [tiny_run(tmp_path / name, local) for name in ("local", "cluster", "alone")]
    federate(runs[0], local)
    with ray_cluster(head_cpus=1) as nodes:
        nodes.add_node(num_cpus=1)
        config = tiny_config(runtime__ray_address=nodes.address)
        both, one = Nodes(ray_processes), Nodes(ray_processes)
        simulate(runs[1], config, both)
        simulate(runs[2], tiny_config(runtime__ray_address=nodes.address, runtime__actors=1), one)
        simulate(tiny_run(tmp_path / "beside", local), local)  # which has nothing to do with the cluster
    assert len(set(both.raylets)) == len(both.raylets) == 2 and len(one.raylets) == 1
    for run in runs[1:]:
        assert same(final(runs[0], local), final(run, config))


@pytest.mark.parametrize(
    ("machines", "runtime", "wanted", "expected"),
    [
        ([{"CPU": 64}], {}, 5, (1, 0.0, 5)),
        ([{"CPU": 2}, {"CPU": 4}], {"training__threads": 3}, 5, (3, 0.0, 1)),
        ([{"CPU": 64, "GPU": 4}], {}, 5, (1, 0.5, 5)),
        ([{"CPU": 8}, {"CPU": 8, "GPU": 2}], {}, 3, (1, 0.5, 3)),
        ([{"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 1}], {}, 7, (1, 0.3333, 7)),
        ([{"CPU": 2, "GPU": 2}, {"CPU": 8, "GPU": 1}], {}, 9, (1, 0.3333, 5)),
        ([{"CPU": 64, "GPU": 3}], {"runtime__gpus_per_client": 0.7}, 5, (1, 0.7, 3)),
        ([{"CPU": 64, "GPU": 3}], {"runtime__gpus_per_client": 0.0}, 5, (1, 0.0, 5)),
    ],
)
def test_on_a_cluster_there_are_as_many_actors_as_wanted_and_as_find_a_place(
    monkeypatch: pytest.MonkeyPatch,
    machines: list[dict[str, float]],
    runtime: dict[str, Any],
    wanted: int,
    expected: tuple[int, float, int],
) -> None:
    monkeypatch.setattr(cluster, "_machines", lambda: machines)
    resources = cluster.resources(tiny_config(runtime__ray_address="auto", **runtime), wanted)
    assert (*resources.values(), min(wanted, cluster.places(resources))) == expected


@pytest.mark.parametrize(
    ("overrides", "lacking"),
    [({"training__threads": 16}, "16 CPUs for"), ({"runtime__gpus_per_client": 0.5}, "1 CPU and 0.5 of a GPU for")],
)
def test_a_cluster_with_no_place_for_an_actor_is_a_failure_that_names_what_is_lacking(
    monkeypatch: pytest.MonkeyPatch, overrides: dict[str, Any], lacking: str
) -> None:
    monkeypatch.setattr(cluster, "_machines", lambda: [{"CPU": 8}, {"CPU": 8}])
    resources = cluster.resources(tiny_config(runtime__ray_address="auto", **overrides), 3)
    with pytest.raises(FedpolypError, match=f"no machine of Ray's has {lacking}"):
        cluster.places(resources)


@pytest.mark.own_process
@pytest.mark.slow
def test_machines_that_see_neither_the_stores_nor_the_run_folder_make_their_own_and_give_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_processes: Callable[[], dict[int, str]]
) -> None:
    local = tiny_config()
    runs = [tiny_run(tmp_path / name, local) for name in ("local", "cluster")]
    federate(runs[0], local)
    own = [tmp_path / "stores-of-2", tmp_path / "stores-of-3"]
    monkeypatch.setenv("FEDPOLYP_STORES", str(tmp_path / "stores"))
    with ray_cluster(head_cpus=0) as nodes:
        for stores in own:
            nodes.add_node(num_cpus=1, env_vars={"FEDPOLYP_STORES": str(stores)})
        config = tiny_config(runtime__ray_address=nodes.address)
        store, partition, watcher = open_source(config.data, config.seed), runs[1].partition(), Nodes(ray_processes)
        shutil.rmtree(store.path)  # this process has it open
        runs[1].partition_file.unlink()
        engine.run(config, runs[1], store, partition, watcher)
    assert len(set(watcher.raylets)) == 2
    assert all((stores / store.path.name).is_dir() for stores in own) and not store.path.exists()
    assert same(final(runs[0], local), final(runs[1], config))


class Killer(Watcher):
    """Kills the actor that is at work in a round, a given number of times."""

    def __init__(self, times: int, ray_processes: Callable[[], dict[int, str]]) -> None:
        self.times = times
        self.ray_processes = ray_processes
        self.notes: list[str] = []
        self.thread = threading.Thread(target=self._kill, daemon=True)
        self.armed = threading.Event()
        self.killed: set[int] = set()

    def asked(self, round: int, task: str, hospitals: Any) -> None:
        if (round, task) == (2, "train") and not self.armed.is_set():
            self.armed.set()
            self.thread.start()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def _kill(self) -> None:
        deadline = time.monotonic() + 120
        while len(self.killed) < self.times and time.monotonic() < deadline:
            for process, command in self.ray_processes().items():
                if "ray::ClientAppActor.run" in command and process not in self.killed:
                    os.kill(process, signal.SIGKILL)
                    self.killed.add(process)
                    break
            time.sleep(0.01)


@pytest.mark.own_process
@pytest.mark.slow
def test_a_killed_actor_is_replaced_and_its_message_repeated_with_the_same_bits(
    tmp_path: Path, ray_processes: Callable[[], dict[int, str]]
) -> None:
    config = tiny_config(runtime__actors=1, training__local_epochs=20)
    whole, hurt = tiny_run(tmp_path / "whole", config), tiny_run(tmp_path / "hurt", config)
    federate(whole, config)
    killer = Killer(1, ray_processes)
    simulate(hurt, config, killer)
    assert len(killer.killed) == 1
    assert same(final(whole, config), final(hurt, config))
    assert all(record["refused"] == [] for record in hurt.rounds())
    assert any("took its place" in note for note in killer.notes)


@pytest.mark.own_process
@pytest.mark.slow
def test_three_deaths_on_a_message_and_on_its_second_try_are_a_named_failure(
    tmp_path: Path, ray_processes: Callable[[], dict[int, str]]
) -> None:
    config = tiny_config(runtime__actors=1, training__local_epochs=20, hospitals__count=1, data__phantom_images=40)
    run, killer = tiny_run(tmp_path / "run", config), Killer(6, ray_processes)
    with pytest.raises(FedpolypError, match=r"round 2 stopped: 0 of 1 .*hospital-1: its process died each time"):
        simulate(run, config, killer)
    assert [record["round"] for record in run.rounds()] == [0, 1]


@pytest.mark.slow
@pytest.mark.own_process
def test_an_engine_that_breaks_down_is_a_failure_with_its_cause_and_nothing_goes_on_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config()
    run = tiny_run(tmp_path / "run", config)
    monkeypatch.setattr(engine, "_backend", lambda *_: {"client_resources": {"num_cpus": "two"}})
    before = set(threading.enumerate())
    with pytest.raises(FedpolypError, match="the simulation failed: ValueError: .*for key `num_cpus`"):
        simulate(run, config)
    for thread in set(threading.enumerate()) - before - cluster._starter._threads:
        thread.join(120)
        assert not thread.is_alive()


failing_app = ClientApp()


@failing_app.train()
def fail(message: Message, context: Context) -> Message:
    raise RuntimeError("disk full at the hospital")


@failing_app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    return client_app(message, context)


@pytest.mark.own_process
@pytest.mark.slow
def test_when_every_client_fails_the_run_fails_naming_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, notes = tiny_config(), Notes()
    run = tiny_run(tmp_path / "run", config)
    monkeypatch.setattr(engine, "client_app", failing_app)
    with pytest.raises(FedpolypError, match="round 1 stopped: 0 of 3 .*hospital-1: .*disk full at the hospital"):
        simulate(run, config, notes)
    assert len(notes.notes) == 4 and notes.notes[-1].endswith("; it is tried once more")


telling_app = ClientApp()


@telling_app.train()
def train(message: Message, context: Context) -> Message:
    seen = Path(str(message.content.config_records["request"]["run_folder"])) / "gpus"
    seen.mkdir(exist_ok=True)
    (seen / str(os.getpid())).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
    return client_app(message, context)


telling_app.evaluate()(evaluate)


@pytest.mark.own_process
@pytest.mark.slow
@pytest.mark.parametrize(
    ("hospitals", "runtime", "expected"),
    [
        (4, {}, ["0", "0", "1", "1"]),
        (3, {}, ["0", "0", "1"]),
        (3, {"runtime__actors": 3, "runtime__gpus_per_client": 0.7}, ["0", "1"]),
        (2, {"runtime__gpus_per_client": 0.0}, ["", ""]),
    ],
    ids=["even", "uneven", "given", "none"],
)
def test_every_actor_works_and_sees_the_one_gpu_that_it_shares(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hospitals: int,
    runtime: dict[str, Any],
    expected: list[str],
) -> None:
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"GPU": 2}')  # as many as Ray is told; TensorFlow finds none
    monkeypatch.setattr(cluster, "_gpus", lambda: 2)
    monkeypatch.setattr(cluster, "this_machine", lambda: Machine(8, int(64e9), 2, False))
    monkeypatch.setattr(engine, "client_app", telling_app)
    config = tiny_config(hospitals__count=hospitals, federation__round_timeout=120.0, **runtime)
    run = tiny_run(tmp_path / "run", config)
    simulate(run, config)
    assert all(record["refused"] == [] for record in run.rounds())
    assert sorted(file.read_text() for file in (run.path / "gpus").iterdir()) == expected


@pytest.mark.own_process
@pytest.mark.slow
def test_an_interrupt_stops_within_seconds_and_leaves_no_ray_process(
    tmp_path: Path, ray_processes: Callable[[], dict[int, str]]
) -> None:
    config = tiny_config(training__local_epochs=500)
    run = tiny_run(tmp_path / "run", config)

    class Interrupt(Watcher):
        at = 0.0

        def asked(self, round: int, task: str, hospitals: Any) -> None:
            if task == "train":
                self.at = time.monotonic()
                threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()

    watcher = Interrupt()
    with pytest.raises(Interrupted):
        simulate(run, config, watcher)
    assert time.monotonic() - watcher.at < 120  # a bound on hanging: the training that it cut short takes minutes
    assert [record["round"] for record in run.rounds()] == [0]
    assert ray_processes() == {}
