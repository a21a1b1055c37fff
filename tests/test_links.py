"""Three sites and a coordinator, each in a network of its own, at links like a hospital's: with real processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fedpolyp.runs import RunFolder
from fedpolyp.sites import audit
from scripts.links import Hospitals
from tests.deployed import Deployment, Followed, Program, simulation_of, wait_until
from tests.real_sites import draw_images
from tests.tiny import final, same_state

SITES = ("bergen", "oslo", "tromso")
LARGE, IMAGES = "oslo", 12

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may make networks"),
]


class AtLinks(Deployment):
    """A deployment whose parties are in networks of their own; `oslo` has 20 times as many images as the others."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SITES, IMAGES, Hospitals.ADDRESS)
        draw_images(self.folder / "many", 19 * IMAGES, first=100)
        for part in ("images", "masks"):
            for file in (self.folder / "many" / part).iterdir():
                file.rename(self.images[LARGE] / part / file.name)
        self.hospitals = self.enter_context(Hospitals(SITES))

    def start(self, name: str, *arguments: str, under: Sequence[str] = ()) -> Program:
        space = self.hospitals.spaces.get(name, self.hospitals.spaces["coordinator"])
        return super().start(name, *arguments, under=(*space.enter, *under))

    def serve(self) -> Program:
        serve = self.start("coordinator", "serve", f"--folder={self.coordinator}")
        ports = (self.port, self.control)
        listens = f"import socket; [socket.create_connection(('127.0.0.1', port), 1) for port in {ports}]"
        knock = [*self.hospitals.spaces["coordinator"].enter, sys.executable, "-c", listens]
        wait_until(lambda: subprocess.run(knock, capture_output=True).returncode == 0, "the coordinator listens")
        return serve


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AtLinks]:
    """A coordinator that serves, and three sites that have joined."""
    with AtLinks(tmp_path_factory.mktemp("links")) as deployment:
        deployment.serve()
        deployment.register()
        for joined in [deployment.join(site) for site in SITES]:
            joined.says("SuperNode ID:")
        yield deployment


def log_of(deployment: AtLinks, site: str, run: Followed, round: int) -> list[dict[str, Any]]:
    """What `site` has written down of the training of `round`."""
    log = deployment.folder / site / "private" / "audit.jsonl"
    entries = [entry.content for entry in audit.read(log)] if log.exists() else []
    about = {"run": run.name(), "message": "train", "round": round}
    return [entry for entry in entries if about.items() <= entry.items()]


def test_a_site_20_times_as_large_is_not_dropped_by_a_timeout_sized_for_the_others(
    sites: AtLinks, tmp_path: Path
) -> None:
    config = tmp_path / "slow.toml"
    timeout = 8  # seconds: more than a small site trains, less than the large one
    config.write_text(f"[data]\nimage_size = 128\n[federation]\nround_timeout = {timeout}\n")
    run = sites.run(
        f"--config={config}", f"--out={tmp_path / 'run'}", "--rounds=1", "--local-epochs=10", "--base-filters=4",
        "--batch-size=4", "--learning-rate=0.01",
    )  # fmt: skip
    assert run.ends() == 0, run.said()
    record = RunFolder(tmp_path / "run").rounds()[1]
    assert record["refused"] == [] and set(record["hospitals"]) == set(SITES)
    assert record["hospitals"][LARGE]["images"] > 15 * record["hospitals"]["bergen"]["images"]
    log = log_of(sites, LARGE, Followed(tmp_path / "run"), 1)
    assert max(entry.get("seconds", 0) for entry in log) > timeout, "the large site was too fast to show anything"


def test_a_killed_site_and_a_link_that_drops_in_a_reply_cost_no_training_and_change_no_bit(
    sites: AtLinks, tmp_path: Path
) -> None:
    run, followed = sites.new_run(tmp_path / "run", 2, f"--held-out-data={sites.heldout}")
    followed.asked(1)
    wait_until(lambda: log_of(sites, "bergen", followed, 1), "bergen trains")
    sites.programs["bergen"].kill()
    sites.join("bergen")
    followed.finished_round(lambda record: record["round"] == 1)

    followed.asked(2)
    link, tromso = sites.hospitals.links["tromso"], sites.programs["tromso"]
    sent = tromso.said().count("Sending: train message")
    wait_until(lambda: tromso.said().count("Sending: train message") > sent, "tromso sends its reply")
    before = link.up.bytes
    wait_until(lambda: link.up.bytes > before + 100_000, "a part of it is on its way")
    link.cut()
    time.sleep(90)
    link.mend()

    assert run.ends() == 0, run.said()
    real = RunFolder(followed.folder)
    for record in real.rounds():
        assert record["refused"] == []
    assert [set(record["hospitals"]) for record in real.rounds()] == [set(SITES)] * 3
    log = log_of(sites, "tromso", followed, 2)
    events = [entry["event"] for entry in log]
    assert events.count("asked") - events.count("found") == 1, f"it trained again: {json.dumps(log)}"
    assert len({entry["sha256"] for entry in log if entry["event"] == "sent"}) == 1
    simulated = simulation_of(real, sites.folder, sites.images, sites.heldout, tmp_path)
    here, there = final(real, real.config()), final(simulated, simulated.config())
    assert same_state(here, there)
