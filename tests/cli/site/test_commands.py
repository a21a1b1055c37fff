"""What the commands of `fedpolyp site` have in common: they show, refuse, and then begin nothing."""

from pathlib import Path

import pytest

from fedpolyp.cli.flower import Command
from fedpolyp.cli.site import serve
from fedpolyp.errors import FedpolypError, UsageError
from tests.cli.site.called import fedpolyp


def test_run_and_register_show_flowers_own_commands_and_make_nothing(deploy: Path) -> None:
    folder = str(deploy / "coordinator")
    assert "flwr supernode register" in fedpolyp("register", "--folder", folder, "--print-command")
    said = fedpolyp("run", "--folder", folder, "--rounds", "3", "--print-command")
    assert "flwr run " in said and said.rpartition("--run-config")[2].split() == [
        "'sites=\"NAME-OF-THE-RUN\"'",
        "--format",
        "json",
    ]
    assert "flwr supernode list" in fedpolyp("status", "--folder", folder, "--print-command")
    assert not (deploy / "coordinator" / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["join", "--folder", "{}/oslo"], "does not name a folder of images"),
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
        (["renew", "--authority", "{}/authority"], "give --out with the folder that 'site init' made, or"),
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


@pytest.mark.parametrize("command", ["serve", "register", "unregister oslo", "status", "run", "certify"])
def test_a_coordinator_whose_authority_is_none_starts_and_asks_nothing(
    deploy: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    coordinator = deploy / "coordinator"
    (coordinator / "ca.crt").write_bytes(b"")
    started: list[object] = []
    monkeypatch.setattr(serve, "serve_until_stopped", lambda *arguments: started.append(arguments))
    monkeypatch.setattr(Command, "start", lambda *arguments, **options: started.append(arguments))
    where = ("--out", str(deploy)) if command == "certify" else ("--folder", str(coordinator))
    with pytest.raises(UsageError, match=r"cannot read the authority's certificate .*ca.crt: it holds no certificate"):
        fedpolyp(*command.split(), *where)
    assert started == [] and not (coordinator / "proxy").exists() and not (coordinator / "runs").exists()
