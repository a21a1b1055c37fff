"""Secure sums at real sites, with real processes; when one is killed, the bits of a simulation that loses it."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import Message

from fedpolyp.runs import RunFolder
from tests.deployed import Deployment, Followed, Program, edit, simulation_of, wait_until
from tests.serial_grid import SerialGrid
from tests.tiny import final, request_of, same_state, serial_grid

SITES = ["bergen", "oslo", "tromso"]
SECURE = ("--secure-sums", "--optimizer-state=reset", "--secure-least=2", "--colluders=0")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def three_sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A coordinator that serves, and three sites that have joined, and take part in sums of two."""
    with Deployment(tmp_path_factory.mktemp("secure"), SITES) as deployment:
        for site in SITES:
            edit(deployment.folder / site / "site.toml", "secure_least = 3", "secure_least = 2")
            edit(deployment.folder / site / "site.toml", "colluders = 1", "colluders = 0")
            edit(deployment.folder / site / "site.toml", "# declared_units =", "declared_units = 9")
        deployment.serve()
        deployment.register()
        for joined in [deployment.join(site) for site in SITES]:
            joined.says("SuperNode ID:")
        yield deployment


@contextlib.contextmanager
def busy(deployment: Deployment, site: str) -> Iterator[None]:
    """Let `site` do nothing that it is asked: it waits for its audit log, which somebody else has locked."""
    with (deployment.folder / site / "private" / "audit.jsonl").open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def begun(deployment: Deployment, site: str, out: Path, *arguments: str) -> Iterator[tuple[Program, Followed]]:
    """A new run of one round, in which `site` does not get beyond being asked to train, until the end of the block."""
    other = next(name for name in SITES if name != site)
    with contextlib.ExitStack() as held:
        with busy(deployment, other):  # so that the round begins when `site` is held
            options = (f"--held-out-data={deployment.heldout}", *SECURE, *arguments)
            run, followed = deployment.new_run(out, 1, *options)
            replied(followed, site, "val", 0)
            held.enter_context(busy(deployment, site))
        yield run, followed


def replied(run: Followed, site: str, task: str, round: int) -> None:
    """Wait until the coordinator has the reply of `site`."""
    about = {"task": task, "round": round, "hospital": site, "reason": ""}
    wait_until(
        lambda: any(about.items() <= event.items() for event in run.events("replied")), f"{site} replies to {task}"
    )


def same_as_simulation(deployment: Deployment, run: Followed, out: Path, grid: SerialGrid | None = None) -> bool:
    real = RunFolder(run.folder)
    simulated = simulation_of(real, deployment.folder, deployment.images, deployment.heldout, out, grid)
    return same_state(final(real, real.config()), final(simulated, simulated.config()))


def survivors(deployment: Deployment, site: str, run: Followed) -> list[list[str]]:
    """Those for whom `site` has opened sums of `run`."""
    lines = map(json.loads, (deployment.folder / site / "private" / "openings.jsonl").read_text().splitlines())
    return [line["survivors"] for line in lines if line["run"] == run.name()]


def trained(run: Followed) -> list[str]:
    record = RunFolder(run.folder).rounds()[1]
    assert "lost" not in record
    return [name for name, own in record["hospitals"].items() if "train_loss" in own]


def test_joint_noise_is_spent_in_the_ledger_of_each_site(three_sites: Deployment, tmp_path: Path) -> None:
    deployment = three_sites
    joint = ("--privacy=joint", "--algorithm=fedadam", "--normalization=group", "--secure-least=2", "--colluders=0")
    held_out = f"--held-out-data={deployment.heldout}"
    run, followed = deployment.new_run(tmp_path / "run", 2, held_out, "--secure-sums", "--epsilon=8", *joint)
    assert run.ends() == 0, run.said()
    for record in RunFolder(followed.folder).rounds()[1:]:
        assert [own["units"] for own in record["hospitals"].values()] == [9, 9, 9]
    assert all(own["epsilon"] == pytest.approx(8.0) for own in record["hospitals"].values())
    for site in SITES:
        private = deployment.folder / site / "private"
        assert len((private / "privacy.jsonl").read_text().splitlines()) == 2
        assert survivors(deployment, site, followed) == [SITES, SITES]


def test_a_site_killed_before_it_opens_opens_when_it_is_back(three_sites: Deployment, tmp_path: Path) -> None:
    deployment = three_sites
    with begun(deployment, "tromso", tmp_path / "run") as (run, followed):
        replied(followed, "bergen", "train", 1)
        deployment.programs["bergen"].kill()
    deployment.join("bergen")
    assert run.ends() == 0, run.said()
    run.says("secure sums: the coordinator reads sums of 2 or more hospitals, no single update")
    assert trained(followed) == SITES
    assert all(survivors(deployment, site, followed) == [SITES] for site in SITES)
    assert same_as_simulation(deployment, followed, tmp_path)


def test_a_site_killed_before_its_reply_is_not_in_the_sum(three_sites: Deployment, tmp_path: Path) -> None:
    deployment = three_sites
    wait_until(lambda: deployment.status().count("online") == 3, "all are back")
    with begun(deployment, "oslo", tmp_path / "run", "--seed=1", "--round-timeout=30") as (run, followed):
        followed.asked(1)
        deployment.programs["oslo"].kill()
    assert run.ends() == 0, run.said()
    assert trained(followed) == ["bergen", "tromso"]
    assert all(survivors(deployment, site, followed) == [["bergen", "tromso"]] for site in ("bergen", "tromso"))
    assert survivors(deployment, "oslo", followed) == []

    def lose(asked: Message, reply: Message) -> Message:
        request = request_of(asked)
        if (request.hospital, request.kind) == ("oslo", "train"):
            raise ConnectionError("its machine is lost")
        return reply

    assert same_as_simulation(deployment, followed, tmp_path, serial_grid(lose))
