"""The links of the deployment tests are slow, late and lossy as they say, and TCP gets through them nevertheless."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.links import Hospitals, Line, Namespace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make networks")

SEND = """
import socket, sys, time, json
began = time.monotonic()
with socket.create_connection((sys.argv[1], 5000)) as there:
    connected = time.monotonic() - began
    there.sendall(bytes(900_000))
    there.shutdown(socket.SHUT_WR)
    print(json.dumps([connected, int(there.makefile().read()), time.monotonic() - began]))
"""
COUNT = """
import socket
door = socket.create_server(("", 5000))
print("listening", flush=True)
with door.accept()[0] as there:
    count = 0
    while some := there.recv(65536):
        count += len(some)
    there.sendall(str(count).encode())
"""


def python(space: Namespace, code: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([*space.enter, sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


def test_what_is_sent_arrives_late_slowly_and_whole_though_packets_are_lost_and_the_link_is_cut() -> None:
    with Hospitals(("oslo",), Line(2, 0.04, 0.02), Line(50, 0.04, 0.02)) as hospitals:
        link = hospitals.links["oslo"]
        with python(hospitals.spaces["coordinator"], COUNT) as count:
            assert count.stdout is not None and count.stdout.readline() == "listening\n"
            with python(hospitals.spaces["oslo"], SEND, hospitals.ADDRESS) as send:
                while link.up.bytes < 100_000:
                    time.sleep(0.01)
                link.cut()
                time.sleep(0.2)
                before = link.up.bytes
                time.sleep(1)
                assert link.up.bytes == before and send.poll() is None
                link.mend()
                said, _ = send.communicate()
        connected, arrived, seconds = json.loads(said)
        assert arrived == 900_000
        assert connected >= 0.08 and seconds >= 8 * 900_000 / 2e6 + 1
        assert link.up.bytes > 900_000 and link.up.dropped > 0
        named = [space.name for space in hospitals.spaces.values()]
    assert not [name for name in named if (Path("/run/netns") / name).exists()]
    assert not list(Path("/sys/class/net").glob(f"fp{os.getpid()}x*"))
