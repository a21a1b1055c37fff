"""A deployment for tests: real processes on loopback, whose words can be read, and which can be killed."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from fedpolyp import runs
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.source import open_source
from fedpolyp.process_tree import descendants
from fedpolyp.runs import RunFolder
from fedpolyp.sites.handover import name_at_sites
from fedpolyp.sites.images import images_of
from fedpolyp.sites.progress import new_lines, progress_file
from fedpolyp.sites.settings import SiteSettings
from scripts.deploy_demo import FEDPOLYP, free_port, running, wait_for
from tests.real_sites import draw_images, make_sites
from tests.serial_grid import SerialGrid
from tests.tiny import federate

PATIENCE = 600.0  # seconds: only a test that fails waits so long
# So many epochs that a training is still going on when a test breaks something.
TINY = ("--base-filters=4", "--batch-size=4", "--learning-rate=0.01", "--local-epochs=10")


def wait_until(true: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Wait until `true()` is, and return it."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, f"after {seconds:.0f} s not yet: {what}"
        time.sleep(0.2)
    return value


@dataclass(frozen=True)
class Program:
    """A `fedpolyp` command that runs."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def said(self) -> str:
        """All it has said so far, in one line."""
        return " ".join(self.log.read_text(errors="replace").split())

    def says(self, text: str) -> None:
        """Wait until it has said `text`."""
        wait_until(lambda: text in self.said() or self.process.poll() is not None, f"{text}\n{self.said()}")
        assert text in self.said(), self.said()

    def ends(self) -> int:
        """Wait for its end; returns the exit code."""
        return self.process.wait(PATIENCE)

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.ends()

    def kill(self) -> None:
        """SIGKILL for it and all that it has started, at once."""
        everything = {self.process.pid} | descendants(self.process.pid)
        # Halted first: nginx would replace a worker that dies before its master.
        for signal_number in (signal.SIGSTOP, signal.SIGKILL):
            for number in everything:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal_number)
        self.process.wait()
        wait_until(lambda: not any(Path(f"/proc/{number}").exists() for number in everything), "all are gone")


class Deployment(contextlib.ExitStack):
    """A coordinator and sites, each with drawn images of its own; all that was started ends with it."""

    def __init__(self, folder: Path, sites: Sequence[str], images: int = 12, host: str = "localhost") -> None:
        super().__init__()
        self.enter_context(pytest.MonkeyPatch.context()).setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        self.sites, self.port, self.control = tuple(sites), free_port(), free_port()
        self.folder = make_sites(folder / "deploy", images, sites, self.port, host)
        self.coordinator = self.folder / "coordinator"
        edit(self.coordinator / "coordinator.toml", "control_port = 18080", f"control_port = {self.control}")
        self.images = {site: self.folder / "images-of" / site for site in sites}
        self.heldout = draw_images(folder / "held-out", 8, first=images * len(sites))
        self.programs: dict[str, Program] = {}

    def start(self, name: str, *arguments: str, under: Sequence[str] = ()) -> Program:
        """Start `fedpolyp site ...`; `name` names its log."""
        log = self.folder / f"{name}-{len(list(self.folder.glob('*.log')))}.log"
        process = self.enter_context(running(("site", *arguments), log, (*under, *FEDPOLYP)))
        self.programs[name] = Program(process, log)
        return self.programs[name]

    def serve(self) -> Program:
        """Start the coordinator, and wait until it listens."""
        serve = self.start("coordinator", "serve", f"--folder={self.coordinator}", "--listen=127.0.0.1")
        for port in (self.port, self.control):
            wait_for(port)
        return serve

    def register(self) -> None:
        """Let all sites in."""
        assert self.start("register", "register", f"--folder={self.coordinator}").ends() == 0

    def join(self, site: str, under: Sequence[str] = ()) -> Program:
        """Start a site."""
        return self.start(site, "join", f"--folder={self.folder / site}", f"--port={free_port()}", under=under)

    def run(self, *arguments: str) -> Program:
        """Start a run."""
        return self.start("run", "run", f"--folder={self.coordinator}", *arguments)

    def new_run(self, out: Path, rounds: int, *arguments: str) -> tuple[Program, "Followed"]:
        """Start a run of tiny models in the new folder `out`."""
        config = self.folder / "experiment.toml"
        config.write_text("[data]\nimage_size = 64\n")
        return self.run(f"--config={config}", f"--out={out}", f"--rounds={rounds}", *TINY, *arguments), Followed(out)

    def status(self) -> str:
        """What `site status` says."""
        status = self.start("status", "status", f"--folder={self.coordinator}")
        assert status.ends() == 0
        return status.log.read_text()


@dataclass(frozen=True)
class Followed:
    """A run at real sites, followed in its folder."""

    folder: Path

    def name(self) -> str:
        """By which the sites know it."""
        return name_at_sites(RunFolder(self.folder))

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What has happened of one kind."""
        return [event for event in new_lines(progress_file(RunFolder(self.folder)), 0)[0] if event["event"] == kind]

    def asked(self, round: int, task: str = "train") -> None:
        """Wait until the sites were asked for `task` in `round`."""
        wait_until(
            lambda: any((event["round"], event["task"]) == (round, task) for event in self.events("asked")),
            f"round {round}: {task}",
        )

    def finished_round(self, like: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for a complete round that is `like` this; returns its record."""

        def found() -> dict[str, Any] | None:
            return next((event["record"] for event in self.events("finished_round") if like(event["record"])), None)

        return dict(wait_until(found, f"such a round in {self.folder}"))


class Relay:
    """A link to a port on loopback, through a port of its own, that can be cut: what is under way is lost."""

    def __init__(self, target: int) -> None:
        self.target, self.whole, self.pairs = target, True, list[tuple[socket.socket, socket.socket]]()
        self.port = free_port()
        self.door: socket.socket
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.mend()
        self.door.shutdown(socket.SHUT_RDWR)
        self.door.close()

    def cut(self) -> None:
        """From now on nothing gets through, and nobody is told: neither who is connected nor who calls."""
        self.whole = False
        self.door.shutdown(socket.SHUT_RDWR)
        self.door.close()
        # Where one caller waits and no more may, the kernel is silent to all others.
        self.door = socket.create_server(("127.0.0.1", self.port), backlog=0)
        self.waiting = socket.create_connection(("127.0.0.1", self.port))

    def mend(self) -> None:
        """Let new connections through; those of before the cut are ended."""
        if self.whole:
            return
        self.whole = True
        pairs, self.pairs = self.pairs, []
        for end in (end for pair in pairs for end in pair):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.waiting.close()
        self.door.close()
        self._open()

    def _open(self) -> None:
        self.door = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.door,), daemon=True).start()

    def _accept(self, door: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the door was shut
            while True:
                threading.Thread(target=self._connect, args=(door.accept()[0],), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        far = socket.socket()
        self.pairs.append((near, far))
        try:
            far.connect(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        threading.Thread(target=self._carry, args=(far, near), daemon=True).start()
        self._carry(near, far)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError), source, sink:
            while (some := source.recv(65536)) and self.whole:
                sink.sendall(some)
            while not self.whole:  # a dead link does not tell
                time.sleep(0.1)


def edit(file: Path, old: str, new: str) -> None:
    """Replace `old`, which must be there."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def simulation_of(
    real: RunFolder,
    deploy: Path,
    images: Mapping[str, Path],
    heldout: Path,
    out: Path,
    grid: SerialGrid | None = None,
) -> RunFolder:
    """The run `real` of the federation in `deploy`, simulated from its first round on, on the same partition."""
    everything = out / "all"
    for folder in (*images.values(), heldout):
        shutil.copytree(folder, everything, dirs_exist_ok=True)
    config = real.config()
    config = config.model_copy(update={"data": config.data.model_copy(update={"source": str(everything)})})
    hospitals = {}
    for site, folder in images.items():
        settings = SiteSettings.load(deploy / site / "site.toml", str(folder))
        hospitals[site] = images_of(settings, config.data.image_size)[1]
    store = open_source(config.data, config.data_seed)
    simulated = runs.create(out / "simulated", config, Partition(real.partition().heldout, hospitals), store.path)
    federate(simulated, config, grid)
    return simulated


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes, but this one, that work in `folder`, or name it there or in the environment.

    Flower's programs do not all name it in their command lines, and nginx's workers nowhere: they were started there.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            marks = (
                command,
                (entry / "environ").read_bytes().decode(errors="replace"),
                str((entry / "cwd").readlink()),
            )
        except OSError:
            continue
        if entry.name != str(os.getpid()) and any(str(folder) in mark for mark in marks):
            found.append(command)
    return found
