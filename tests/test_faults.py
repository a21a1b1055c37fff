"""What breaks at real sites is told in words, costs the round under way at most, and ends: with real processes."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fedpolyp.runs import RunFolder
from fedpolyp.sites import audit
from fedpolyp.sites.certificates import Authority, certificate_pem, key_pem
from fedpolyp.sites.progress import told_by
from tests.deployed import Deployment, Followed, Relay, edit, simulation_of, wait_until
from tests.tiny import final, same_state

LOST = "its machine or its link has failed"
ENDLESS = 1000  # rounds: the run is stopped when the test has seen enough

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two_sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A coordinator that serves, and two sites that have joined."""
    with Deployment(tmp_path_factory.mktemp("faults"), ["bergen", "oslo"]) as deployment:
        deployment.serve()
        deployment.register()
        for joined in [deployment.join(site) for site in deployment.sites]:
            joined.says("SuperNode ID:")
        yield deployment


def refusing(site: str) -> Any:
    return lambda record: any(refusal["hospital"] == site for refusal in record["refused"])


def again(site: str, after: int) -> Any:
    return lambda record: record["round"] > after and site in record["hospitals"] and not record["refused"]


def begins_training(deployment: Deployment, site: str, run: Followed, round: int = 1) -> None:
    """Wait until `site` has been asked to train in `round` of `run`."""
    run.asked(round)
    log = deployment.folder / site / "private" / "audit.jsonl"
    about = {"event": "asked", "run": run.name(), "message": "train", "round": round}

    def asked() -> bool:
        return any(about.items() <= json.loads(line).items() for line in log.read_text().splitlines())

    wait_until(asked, f"{site} is asked to train in round {round}")


def test_a_site_killed_in_a_round_goes_on_with_that_round(two_sites: Deployment, tmp_path: Path) -> None:
    deployment = two_sites
    run, followed = deployment.new_run(tmp_path / "run", ENDLESS, f"--held-out-data={deployment.heldout}")
    begins_training(deployment, "oslo", followed)
    deployment.programs["oslo"].kill()
    oslo = deployment.join("oslo")
    oslo.says("or the coordinator has not yet noticed that an earlier start of this site has ended; trying again")
    record = followed.finished_round(lambda record: record["round"] == 1)
    assert set(record["hospitals"]) == {"bergen", "oslo"} and record["refused"] == []
    run.says(f"round 1: oslo is no longer connected: {LOST}; it is asked again when it is back")
    run.says("round 1: oslo is asked again")
    assert run.interrupt() == 1
    run.says("fedpolyp: interrupted; the run was stopped")
    run.says(f"resume with: fedpolyp site run --folder {deployment.coordinator} --resume {followed.folder}")


def test_a_program_that_is_there_by_half_costs_one_request_and_names_no_folder(
    two_sites: Deployment, tmp_path: Path
) -> None:
    deployment = two_sites
    run, followed = deployment.new_run(tmp_path / "run", ENDLESS, "--min-replies=0.3")
    followed.finished_round(lambda record: record["round"] == 1)
    (program,) = (deployment.folder / "oslo" / "private" / "flower" / "apps").iterdir()
    (program / "clients" / "audited.py").write_text("")  # as a full disk or a kill may leave it
    record = followed.finished_round(refusing("oslo"))
    reason = record["refused"][0]["reason"]
    assert "cannot import name 'AuditedApp'" in reason
    assert "/proc/self/cwd/private/flower/apps/" in reason and str(deployment.folder) not in reason
    followed.finished_round(again("oslo", record["round"]))
    entries = audit.read(deployment.folder / "oslo" / "private" / "audit.jsonl")
    assert any("the program did not start" in entry.content.get("reason", "") for entry in entries)
    assert run.interrupt() == 1


def test_a_coordinator_killed_in_a_round_goes_on_to_the_same_bits(two_sites: Deployment, tmp_path: Path) -> None:
    deployment = two_sites
    run, followed = deployment.new_run(tmp_path / "run", 2, f"--held-out-data={deployment.heldout}")
    begins_training(deployment, "oslo", followed, round=2)
    deployment.programs["coordinator"].kill()
    assert run.ends() == 1
    run.says("fedpolyp: the coordinator does not answer: is 'fedpolyp site serve' running?")
    run.says("rounds are complete up to 1; resume with: fedpolyp site run")
    assert deployment.start("renew", "renew", f"--out={deployment.folder}").ends() == 0  # sites need not notice that
    deployment.serve()
    run = deployment.run(f"--resume={followed.folder}")
    assert run.ends() == 0, run.said()
    run.says(f"run folder: {followed.folder}")
    real = RunFolder(followed.folder)
    assert [record["round"] for record in real.rounds()] == [0, 1, 2]
    simulated = simulation_of(real, deployment.folder, deployment.images, deployment.heldout, tmp_path)
    here, there = final(real, real.config()), final(simulated, simulated.config())
    assert same_state(here, there)


def test_a_run_goes_on_without_its_follower_and_is_followed_again(two_sites: Deployment, tmp_path: Path) -> None:
    deployment, told = two_sites, tmp_path / "told.json"
    run, followed = deployment.new_run(tmp_path / "run", 1, f"--app={checkout_that_tells(told, tmp_path)}")
    begins_training(deployment, "oslo", followed)
    run.kill()
    run = deployment.run(f"--resume={followed.folder}")
    assert run.ends() == 0, run.said()
    for said in ("2 hospitals", "round 0/1", "round 1/1", f"run folder: {followed.folder}"):
        run.says(said)
    folder = RunFolder(followed.folder)
    assert (
        len(told_by(folder)) == 1
        and folder.model_file("last").exists()
        and folder.model_file("best").exists()
        and folder.curves.exists()
    )
    # And what Flower told the sites of the run: no path.
    assert json.loads(told.read_text()) == {"config": "", "out": "", "overrides": "", "sites": followed.name()}


def checkout_that_tells(file: Path, folder: Path) -> Path:
    """A copy of the program whose ClientApp writes to `file` what the site's node has got of the run config."""
    copy, root = folder / "checkout", Path(__file__).parents[1]
    for part in ("clients", "server", "fedpolyp"):
        shutil.copytree(root / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(root / part, copy / part)
    start = "def _done(kind: str, content: RecordDict, context: Context) -> RecordDict:\n"
    tell = f"    __import__('pathlib').Path({str(file)!r}).write_text(__import__('json').dumps(context.run_config))\n"
    edit(copy / "clients" / "app.py", start, start + tell)
    return copy


def test_a_site_whose_link_was_cut_in_a_round_goes_on_with_that_round(two_sites: Deployment, tmp_path: Path) -> None:
    deployment = two_sites
    with Relay(deployment.port) as link:
        assert deployment.programs["bergen"].interrupt() == 0
        edit(deployment.folder / "bergen" / "site.toml", f":{deployment.port}", f":{link.port}")
        deployment.join("bergen")
        run, followed = deployment.new_run(tmp_path / "run", ENDLESS)
        begins_training(deployment, "bergen", followed)
        link.cut()
        run.says(f"round 1: bergen is no longer connected: {LOST}; it is asked again when it is back")
        link.mend()
        record = followed.finished_round(lambda record: record["round"] == 1)
        assert set(record["hospitals"]) == {"bergen", "oslo"} and record["refused"] == []
        log = [entry.content for entry in audit.read(deployment.folder / "bergen" / "private" / "audit.jsonl")]
        about = {"run": followed.name(), "round": 1, "message": "train"}
        events = [entry["event"] for entry in log if about.items() <= entry.items()]
        assert events.count("asked") - events.count("found") == 1, f"it trained again: {events}"
        assert run.interrupt() == 1


def test_a_site_behind_a_relay_comes_back_when_the_coordinator_was_restarted(tmp_path: Path) -> None:
    # The relay takes calls that nobody answers, which Flower takes for a refusal for ever.
    with Deployment(tmp_path, ["oslo"]) as deployment, Relay(deployment.port) as link:
        edit(deployment.folder / "oslo" / "site.toml", f":{deployment.port}", f":{link.port}")
        deployment.serve()
        deployment.register()
        oslo = deployment.join("oslo")
        oslo.says("SuperNode ID:")
        deployment.programs["coordinator"].kill()
        oslo.says("the connection to the coordinator broke; trying again in 10 s")
        deployment.serve()
        wait_until(lambda: oslo.said().count("SuperNode ID:") == 2, "oslo is back")


def test_sites_that_cannot_work_are_named_with_the_reason_and_the_others_go_on(tmp_path: Path) -> None:
    with Deployment(tmp_path, ["empty", "full", "well"]) as deployment:
        for mask in (deployment.images["empty"] / "masks").iterdir():
            mask.write_bytes(b"")
        deployment.serve()
        deployment.register()
        for site in ("empty", "well"):
            deployment.join(site)
        # Its images take 147 kB on the disk, at 64 pixels.
        deployment.join("full", under=("prlimit", "--fsize=100000"))
        run, followed = deployment.new_run(tmp_path / "run", 1, "--min-replies=0.3")
        assert run.ends() == 0, run.said()
        reasons = {
            "empty": "its settings or images cannot be used: its own log says why",
            "full": "it cannot work with its disk: its own log says why",
        }
        for record in RunFolder(followed.folder).rounds():
            assert set(record["hospitals"]) == {"well"}
            assert {refusal["hospital"]: refusal["reason"] for refusal in record["refused"]} == reasons
        for site, why in (("empty", "no usable pair in"), ("full", "cannot write the store")):
            entries = audit.read(deployment.folder / site / "private" / "audit.jsonl")
            assert any(why in entry.content.get("reason", "") for entry in entries)


def test_a_site_with_an_unregistered_key_is_told_so_and_gets_in_once_it_is_registered(tmp_path: Path) -> None:
    with Deployment(tmp_path, ["oslo"]) as deployment:
        deployment.serve()
        oslo = deployment.join("oslo")
        oslo.says("the coordinator does not let this site in: its key is not registered")
        deployment.register()
        wait_until(lambda: "online" in deployment.status(), "oslo is online")
        assert oslo.process.poll() is None
        check = deployment.start("check", "check", f"--folder={deployment.folder / 'oslo'}")
        check.says(f"ok coordinator: localhost:{deployment.port} reached")
        check.says("s for one pass over the training images")


def test_a_site_with_a_new_key_is_let_in_with_it_alone_until_it_is_unregistered(tmp_path: Path) -> None:
    with Deployment(tmp_path, ["oslo"]) as deployment:
        deployment.serve()
        deployment.register()
        oslo, folder = deployment.join("oslo"), deployment.folder / "oslo"
        oslo.says("SuperNode ID:")
        shutil.copytree(folder, deployment.folder / "thief")
        for file in ("site.key", "oslo.pub"):
            (folder / file).unlink()
        assert deployment.start("keygen", "keygen", f"--folder={folder}").ends() == 0
        shutil.copyfile(folder / "oslo.pub", deployment.coordinator / "sites" / "oslo.pub")
        certify = deployment.start("certify", "certify", "oslo", f"--out={deployment.folder}")
        assert certify.ends() == 0
        shutil.copyfile(deployment.coordinator / "sites" / "oslo.crt", folder / "site.crt")
        deployment.register()
        thief = deployment.join("thief")  # whose certificate is refused, and so is the key, were it not
        thief.says("the coordinator does not let oslo in: ")
        shutil.copyfile(folder / "site.crt", deployment.folder / "thief" / "site.crt")
        thief.says("site.crt is not a certificate for")
        assert thief.ends() == 2
        # The connection with the old key was ended, too.
        wait_until(lambda: oslo.said().count("SuperNode ID:") == 2, "oslo is back with its new key")
        unregister = deployment.start("unregister", "unregister", "oslo", f"--folder={deployment.coordinator}")
        assert unregister.ends() == 0, unregister.said()
        oslo.says("the coordinator does not let oslo in: ")
        assert "not registered" in deployment.status()


def test_a_bad_certificate_is_told_and_the_site_gets_in_with_a_renewed_one(tmp_path: Path) -> None:
    with Deployment(tmp_path, ["oslo"]) as deployment:
        ours = Authority.load(*(deployment.folder / "authority" / f"ca.{kind}" for kind in ("key", "crt")))
        bad = {
            "it was not signed by the authority in ca.crt": (Authority.new("theirs"), timedelta(0)),
            "it is not valid yet; this machine's clock may be slow": (ours, timedelta(days=1)),
            "it has expired; the coordinator must renew it (or this machine's clock is wrong)": (ours, timedelta(-10)),
        }
        for why, (authority, start) in bad.items():
            key, certificate = authority.server_certificate(["localhost", "127.0.0.1"], datetime.now(UTC) + start, 9)
            (deployment.coordinator / "server.key").write_bytes(key_pem(key))
            (deployment.coordinator / "server.crt").write_bytes(certificate_pem(certificate))
            serve, oslo = deployment.serve(), deployment.join("oslo")
            oslo.says(f"the coordinator's certificate is not accepted: {why}; trying again in 10 s")
            assert serve.interrupt() == 0
            if why != list(bad)[-1]:
                assert oslo.interrupt() == 0
        assert deployment.start("renew", "renew", f"--out={deployment.folder}").ends() == 0
        deployment.serve()
        deployment.register()
        wait_until(lambda: "online" in deployment.status(), "oslo is online")
        assert oslo.process.poll() is None
