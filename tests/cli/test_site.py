"""`fedpolyp site`: what it makes, prints and refuses, without Flower's programs."""

import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clients import worker
from fedpolyp import runs
from fedpolyp.cli import app
from fedpolyp.cli import site as commands
from fedpolyp.cli.flower import Command
from fedpolyp.config import load
from fedpolyp.data.partition.partition import HospitalImages, Partition
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.files import sole, write_text
from fedpolyp.sites import audit

JSON = ("--format", "json")


def fedpolyp(*arguments: str) -> str:
    """What the command prints; raises what it raises."""
    outcome = CliRunner().invoke(app, ["site", *arguments])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    said = fedpolyp("init", "--coordinator", "localhost", "--sites", "oslo,bergen", "--out", str(tmp_path / "deploy"))
    assert "keep it offline" in said
    return tmp_path / "deploy"


def test_serve_shows_the_superlink_on_loopback_with_node_authentication(deploy: Path) -> None:
    said = fedpolyp("serve", "--folder", str(deploy / "coordinator"), "--print-command")
    assert (
        f"-m fedpolyp.cli.superlink {deploy / 'coordinator'} --host=127.0.0.1" in said
        and "--enable-supernode-auth" in said
    )
    assert f"--database={deploy / 'coordinator' / 'superlink.db'}" in said and "nginx " in said
    assert not (deploy / "coordinator" / "proxy").exists()


def test_join_shows_the_supernode_with_the_sites_own_key_and_folder(deploy: Path, tmp_path: Path) -> None:
    said = fedpolyp("join", "--folder", str(deploy / "oslo"), "--data", str(tmp_path / "pictures"), "--print-command")
    assert f"--auth-supernode-private-key={deploy / 'oslo' / 'site.key'}" in said
    assert f'site="{deploy / "oslo" / "site.toml"}" data="{tmp_path / "pictures"}"' in said


def test_join_begins_without_what_an_earlier_start_left_by_half_and_makes_files_for_its_user_alone(
    deploy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oslo = deploy / "oslo"
    kept = oslo / "private"
    (kept / "flower" / "apps" / "half").mkdir(parents=True)
    (kept / "flower" / "worker.json").write_bytes(b"")  # of a power cut
    for folder in (oslo, kept):
        folder.chmod(0o755)  # scp or zip lose the mode
    monkeypatch.setenv(worker.JOINED, "")

    def stay(*_: object) -> None:
        assert not (kept / "flower" / "apps").exists() and not (kept / "flower" / "worker.json").exists()
        write_text(kept / "state" / "000001.npz", "moments")

    monkeypatch.setattr(commands, "keep_running", stay)
    before = os.umask(0o022)
    try:
        fedpolyp("join", "--folder", str(oslo), "--data", str(tmp_path))
    finally:
        os.umask(before)
    for made in ("state", "state/000001.npz"):
        assert stat.S_IMODE((kept / made).stat().st_mode) & 0o077 == 0


def test_a_second_join_of_a_site_is_refused_and_harms_nothing(
    deploy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps = deploy / "oslo" / "private" / "flower" / "apps"
    apps.mkdir(parents=True)
    monkeypatch.setattr(commands, "keep_running", lambda *_: pytest.fail("it joined"))
    with (
        sole(deploy / "oslo" / "private" / ".lock", "another test"),
        pytest.raises(FedpolypError, match="'site join' is running in .*oslo already"),
    ):
        fedpolyp("join", "--folder", str(deploy / "oslo"), "--data", str(tmp_path))
    assert apps.is_dir()


def test_what_fails_before_the_program_starts_names_no_folder_of_the_site(deploy: Path, tmp_path: Path) -> None:
    said = fedpolyp("join", "--folder", str(deploy / "oslo"), "--data", str(tmp_path), "--print-command")
    assert f"cd {deploy / 'oslo'} && FLWR_HOME=/proc/self/cwd/private/flower " in said


def test_run_and_register_show_flowers_own_commands_and_make_nothing(deploy: Path) -> None:
    folder = str(deploy / "coordinator")
    assert "flwr supernode register" in fedpolyp("register", "--folder", folder, "--print-command")
    said = fedpolyp("run", "--folder", folder, "--rounds", "3", "--print-command")
    assert "flwr run " in said and said.rpartition("--run-config")[2].split() == ["'sites=\"NAME-OF-THE-RUN\"'", *JSON]
    assert "flwr supernode list" in fedpolyp("status", "--folder", folder, "--print-command")
    assert not (deploy / "coordinator" / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["join", "--folder", "{}/oslo"], "names no folder of images"),
        (["join", "--folder", "{}/oslo", "--data", '{}/a"b'], "quotation marks"),
        (["join", "--folder", "{}/nowhere"], "cannot read"),
        (["register", "--folder", "{}/coordinator", "tromso"], "is not among the sites"),
        (["run", "--folder", "{}/coordinator", "--algorithm", "pooled"], "real sites are federated"),
        (
            "run --folder {}/coordinator --privacy local --algorithm fedadam --normalization group".split(),
            "the coordinator needs a held-out set of its own",
        ),
        (["run", "--folder", "{}/coordinator", "--resume", "x", "--rounds", "3"], "uses the run as it is"),
        (["run", "--folder", "{}/coordinator", "--app", "{}"], "is not a checkout"),
        (["renew", "--authority", "{}/authority"], "name the folder that 'site init' made with --out, or"),
        (
            ["init", "--coordinator", "a", "--sites", "authority", "--out", "{}/new"],
            "no site can be called authority, coordinator or refused",
        ),
        (["keygen", "--folder", "{}/oslo"], "never overwritten"),
        (["log", "--folder", "{}/oslo"], "cannot read the audit log"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(deploy: Path, arguments: list[str], why: str) -> None:
    with pytest.raises(FedpolypError, match=why):
        fedpolyp(*(argument.replace("{}", str(deploy)) for argument in arguments))


def test_a_key_made_at_the_site_is_the_one_it_joins_with(tmp_path: Path) -> None:
    out = tmp_path / "deploy"
    fedpolyp("init", "--coordinator", "localhost", "--sites", "oslo", "--out", str(out), "--no-keys")
    with pytest.raises(FedpolypError, match="keygen"):
        fedpolyp("join", "--folder", str(out / "oslo"), "--data", str(tmp_path))
    said = fedpolyp("keygen", "--folder", str(out / "oslo"))
    assert "oslo.pub and " in said and "oslo.mask.pub to the coordinator" in said
    assert (out / "oslo" / "site.key").exists() and (out / "oslo" / "oslo.pub").exists()
    join = ("join", "--folder", str(out / "oslo"), "--data", str(tmp_path), "--print-command")
    with pytest.raises(
        UsageError, match=r"site\.crt is missing; the coordinator makes a new one .*: fedpolyp site certify"
    ):
        fedpolyp(*join)
    keys = out / "coordinator" / "sites"
    (out / "oslo" / "oslo.pub").rename(keys / "oslo.pub")
    register = ("register", "--folder", str(out / "coordinator"), "--print-command")
    with pytest.raises(UsageError, match=r"oslo\.crt is missing: 'fedpolyp site certify oslo' makes it"):
        fedpolyp(*register)
    secure = ("run", "--folder", str(out / "coordinator"), "--secure-sums", "--optimizer-state", "reset")
    with pytest.raises(
        UsageError, match=r"secure sums need .*roster\.txt, the signed mask keys: 'fedpolyp site certify'"
    ):
        fedpolyp(*secure, "--print-command")
    (out / "oslo" / "oslo.mask.pub").rename(keys / "oslo.mask.pub")
    said = fedpolyp("certify", "--out", str(out))
    assert f"{keys / 'oslo.crt'}: send it to oslo, where it becomes site.crt" in said
    assert f"{out / 'coordinator' / 'roster.txt'}: the mask keys of oslo" in said
    assert "flwr run" in fedpolyp(*secure, "--print-command")
    (out / "oslo" / "site.crt").write_bytes((keys / "oslo.crt").read_bytes())
    assert "fedpolyp.cli.supernode" in fedpolyp(*join) and "flwr supernode register" in fedpolyp(*register)


def test_a_site_of_an_older_version_gets_a_mask_key_and_keeps_its_key(deploy: Path) -> None:
    folder = deploy / "oslo"
    before = (folder / "site.key").read_bytes()
    for name in ("mask.key", "oslo.mask.pub"):
        (folder / name).unlink()
    assert f"send {folder / 'oslo.mask.pub'} to the coordinator" in fedpolyp("keygen", "--folder", str(folder))
    assert (folder / "site.key").read_bytes() == before and (folder / "mask.key").exists()


def test_a_certificate_for_another_key_than_the_one_that_is_registered_is_refused(deploy: Path) -> None:
    keys = deploy / "coordinator" / "sites"
    (keys / "oslo.pub").write_bytes((keys / "bergen.pub").read_bytes())
    with pytest.raises(UsageError, match=r"oslo\.crt is for another key: 'fedpolyp site certify oslo' makes one"):
        fedpolyp("register", "oslo", "--folder", str(deploy / "coordinator"), "--print-command")


def test_while_it_serves_nginx_is_told_at_once_which_certificates_came_and_went(
    deploy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = deploy / "coordinator"
    config, certificate = coordinator / "proxy" / "nginx.conf", coordinator / "sites" / "oslo.crt"
    content, told = certificate.read_bytes(), list[int]()

    class Played:
        send_signal = told.append

    def stay(started: list[Command], meanwhile: Callable[[list[Played]], None]) -> None:
        link, gate = started
        assert "fedpolyp.cli.superlink" in link.arguments and gate.folder == coordinator / "proxy"
        running = [Played(), Played()]
        meanwhile(running)
        assert not told and "unix:oslo.sock" in config.read_text()
        certificate.unlink()
        meanwhile(running)
        assert told == [signal.SIGHUP] and "unix:oslo.sock" not in config.read_text()
        certificate.write_bytes(content[:100])  # a copy that is under way
        meanwhile(running)
        assert "unix:oslo.sock" not in config.read_text()
        certificate.write_bytes(content)
        meanwhile(running)
        meanwhile(running)
        assert told == [signal.SIGHUP] * 3 and "unix:oslo.sock" in config.read_text()

    monkeypatch.setattr(commands, "serve_until_stopped", stay)
    said = " ".join(fedpolyp("serve", "--folder", str(coordinator)).split())
    assert "admitted by their certificates: bergen " in said and "admitted by their certificates: bergen, oslo" in said
    assert "oslo.crt holds no certificate" in said


def test_a_second_serve_of_a_coordinator_is_refused_and_harms_nothing(deploy: Path) -> None:
    work = deploy / "coordinator" / "proxy"
    work.mkdir()
    (work / "oslo.sock").touch()  # that sites come in through
    with (
        sole(work / ".lock", "another test"),
        pytest.raises(FedpolypError, match="'site serve' is running in .*coordinator already"),
    ):
        fedpolyp("serve", "--folder", str(deploy / "coordinator"))
    assert (work / "oslo.sock").exists()


def test_a_key_and_a_certificate_that_do_not_belong_together_are_not_served(deploy: Path) -> None:
    coordinator = deploy / "coordinator"
    before = (coordinator / "server.crt").read_bytes()
    fedpolyp("renew", "--out", str(deploy))
    (coordinator / "server.crt").write_bytes(before)  # as if it had been killed between the two
    with pytest.raises(FedpolypError, match="is not the key of .*: 'fedpolyp site renew' makes both again"):
        fedpolyp("serve", "--folder", str(coordinator))


@pytest.mark.parametrize("command", ["serve", "register", "unregister oslo", "status", "run", "certify"])
def test_a_coordinator_whose_authority_is_none_starts_and_asks_nothing(
    deploy: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    coordinator = deploy / "coordinator"
    (coordinator / "ca.crt").write_bytes(b"")
    started: list[object] = []
    monkeypatch.setattr(commands, "serve_until_stopped", lambda *arguments: started.append(arguments))
    monkeypatch.setattr(Command, "start", lambda *arguments, **options: started.append(arguments))
    where = ("--out", str(deploy)) if command == "certify" else ("--folder", str(coordinator))
    with pytest.raises(UsageError, match=r"cannot read the authority's certificate .*ca.crt: it holds no certificate"):
        fedpolyp(*command.split(), *where)
    assert started == [] and not (coordinator / "proxy").exists() and not (coordinator / "runs").exists()


def test_the_log_shows_its_entries_and_that_one_was_changed(deploy: Path) -> None:
    log = deploy / "oslo" / "private" / "audit.jsonl"
    for event in ("asked", "sent"):
        audit.append(log, event, {"message": "evaluate", "set": "val", "round": 3, "bytes": 17, "sha256": "ab" * 32})
    said = fedpolyp("log", "--folder", str(deploy / "oslo"))
    assert "evaluate val" in said and "2 entries, none changed" in said
    log.write_bytes(log.read_bytes().replace(b'"bytes": 17', b'"bytes": 18', 1))
    with pytest.raises(FedpolypError, match="line 1 was changed after it was written"):
        fedpolyp("log", "--folder", str(deploy / "oslo"))


def test_whatever_the_log_holds_is_shown_without_steering_the_terminal(deploy: Path) -> None:
    log = deploy / "oslo" / "private" / "audit.jsonl"
    values: list[object] = [1764106621.5, None, ["\x1b[2J"], {"a": {}}, True, "\x1b]0;title\x07"]
    for value in values:
        audit.append(log, "asked", {"message": value, "round": value, "bytes": value, "sha256": value, "reason": value})
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    for entry, value in zip(lines, values, strict=True):
        entry["time"] = entry["event"] = value
    log.write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    outcome = CliRunner().invoke(app, ["site", "log", "--folder", str(deploy / "oslo")])
    assert isinstance(outcome.exception, FedpolypError) and "line 1 was changed" in str(outcome.exception)
    assert "\x1b" not in outcome.output and "1764106621.5" in outcome.output


def test_the_authority_may_lie_elsewhere_when_the_certificate_is_renewed(deploy: Path, tmp_path: Path) -> None:
    (deploy / "authority").rename(tmp_path / "stick")
    (deploy / "coordinator").rename(tmp_path / "opt")
    before = (tmp_path / "opt" / "server.crt").read_bytes()
    said = fedpolyp("renew", "--authority", str(tmp_path / "stick"), "--coordinator", str(tmp_path / "opt"))
    assert "restart 'fedpolyp site serve'" in said and (tmp_path / "opt" / "server.crt").read_bytes() != before


def test_a_simulated_run_is_not_gone_on_with_at_sites(deploy: Path, tmp_path: Path) -> None:
    run = runs.create(tmp_path / "run", load(), Partition((), {"hospital-1": HospitalImages(("a",), (), ())}))
    with pytest.raises(UsageError, match="was not run at sites; go on with fedpolyp simulate --resume"):
        fedpolyp("run", "--folder", str(deploy / "coordinator"), "--resume", str(run.path))


@pytest.mark.parametrize(("text", "shown"), [("\0x", r"\\x00x"), ("a\nb", r"a\\nb"), ("\x1b[2J", r"\\x1b\[2J")])
def test_a_control_character_in_the_settings_of_a_site_is_one_sentence(text: str, shown: str) -> None:
    from fedpolyp.sites.settings import Limits

    class Named(Limits):
        data: str = ""

    with pytest.raises(UsageError, match=rf"^site.toml: data must not have control characters; got '{shown}'$"):
        Named.of({"data": text}, Path("site.toml"))
