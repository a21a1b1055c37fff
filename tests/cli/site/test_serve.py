"""`fedpolyp site serve`: what it shows, makes and tells nginx, without Flower's programs."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fedpolyp.cli.flower import Command
from fedpolyp.cli.site import serve
from fedpolyp.errors import FedpolypError
from fedpolyp.files import sole
from tests.cli.site.called import fedpolyp


def test_serve_shows_the_superlink_on_loopback_with_node_authentication(deploy: Path) -> None:
    said = fedpolyp("serve", "--folder", str(deploy / "coordinator"), "--print-command")
    assert (
        f"-m fedpolyp.cli.superlink {deploy / 'coordinator'} --host=127.0.0.1" in said
        and "--enable-supernode-auth" in said
    )
    assert f"--database={deploy / 'coordinator' / 'superlink.db'}" in said and "nginx " in said
    assert not (deploy / "coordinator" / "proxy").exists()


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

    monkeypatch.setattr(serve, "serve_until_stopped", stay)
    said = " ".join(fedpolyp("serve", "--folder", str(coordinator)).split())
    assert "admitted by their certificates: bergen " in said and "admitted by their certificates: bergen, oslo" in said
    assert "oslo.crt holds no certificate" in said


def test_a_second_serve_of_a_coordinator_is_refused_and_harms_nothing(deploy: Path) -> None:
    work = deploy / "coordinator" / "proxy"
    work.mkdir()
    (work / "oslo.sock").touch()  # that sites come in through
    with (
        sole(work / ".lock", "another test"),
        pytest.raises(FedpolypError, match="'site serve' is already running in .*coordinator"),
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
