"""`fedpolyp view` starts at once, says where, and ends at once."""

import http.client
import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpolyp.view.server import listening
from tests.command import exit_code
from tests.test_command_line import FEDPOLYP, ROOT
from tests.view.places import begin, carry, end
from tests.view.test_seeing import encoded


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    return exit_code(monkeypatch, "view", *arguments)


def test_it_says_where_it_is_answers_there_and_ends_at_once_with_exit_code_0(tmp_path: Path) -> None:
    begin(tmp_path / "runs" / "one")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DISPLAY": ""}
    command = [*FEDPOLYP, "view", "--port", "0"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            address = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/#token=([\w-]{43})\n", said)
            assert address, said
            assert process.stdout.readline() == "only this machine can open it; press Ctrl-C to stop\n"
            connection = http.client.HTTPConnection("127.0.0.1", int(address[1]), timeout=120)
            connection.request("GET", "/api/places", headers={"authorization": f"Bearer {address[2]}"})
            assert b'"name":"one"' in connection.getresponse().read()
            process.send_signal(signal.SIGINT)  # while a connection is open
            rest, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, rest, errors) == (0, "", "")


ENDLESS = """
import sys, time
from fedpolyp.view import seeing
def load(path):
    print("loading", flush=True)
    time.sleep(1_000_000)
seeing.load_predictor = load
sys.argv = ["fedpolyp", "view", "one", "--port", "0", "--no-open"]
from fedpolyp.__main__ import main
main()
"""


def test_ctrl_c_does_not_wait_for_a_model(tmp_path: Path) -> None:
    run = begin(tmp_path / "runs" / "one")
    carry(run, 4)
    end(run)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", ENDLESS]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) as process:
        try:
            assert process.stdout is not None
            port, token = re.findall(r":(\d+)/#token=(\S+)", process.stdout.readline())[0]
            process.stdout.readline()
            connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=120)
            headers = {"authorization": f"Bearer {token}", "origin": f"http://127.0.0.1:{port}"}
            image = encoded(".png", np.zeros((4, 4, 3), np.uint8))
            path = "/api/see?of=one&model=model-last.keras"
            connection.request("POST", path, image, headers | {"content-type": "image/png"})
            assert process.stdout.readline() == "loading\n"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")


def test_a_port_in_use_is_one_sentence_with_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with listening(0) as taken:
        port = taken.getsockname()[1]
        assert called(monkeypatch, "--port", str(port), "--no-open") == 1
    why = f"cannot listen on port {port} of 127.0.0.1: Address already in use"
    assert capsys.readouterr().err == f"fedpolyp: {why}; choose another with --port; 0 takes a free one\n"


def test_what_is_no_run_is_refused_with_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, "nothing") == 2
    assert capsys.readouterr().err.startswith("fedpolyp: there is no run or comparison 'nothing'")


@pytest.mark.parametrize(
    ("options", "display", "opens"), [((), ":0", True), (("--no-open",), ":0", False), ((), "", False)]
)
def test_a_browser_is_opened_in_a_window_alone_and_its_command_line_holds_no_token(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    display: str,
    opens: bool,
) -> None:
    opened: list[str] = []

    class AtOnce:
        def __init__(self, target: Any, args: Any, daemon: bool) -> None:
            self.start = lambda: target(*args)

    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    command = importlib.import_module("fedpolyp.cli.view")
    monkeypatch.setattr(command.webbrowser, "open", opened.append)
    monkeypatch.setattr(command.threading, "Thread", AtOnce)
    monkeypatch.setattr("fedpolyp.view.server.serve", lambda app, listener, stop: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, "--port", "0", *options) == 0
    token = capsys.readouterr().out.splitlines()[0].partition("#token=")[2]
    assert token and len(opened) == opens
    assert all("#once=" in address and token not in address for address in opened)
