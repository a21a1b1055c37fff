"""Runs a deployment on this machine: one coordinator and three hospitals, each a process with its own folder."""

import argparse
import contextlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from fedpolyp.data import phantom
from fedpolyp.data.reading import SUFFIXES

HELD_OUT = "held-out"
_PORTS = random.SystemRandom()
FEDPOLYP = (sys.executable, "-m", "fedpolyp")
PRIVATE = ["--base-filters", "8", "--privacy", "local", "--algorithm", "fedadam", "--server-rate", "0.01"]
PRIVATE += ["--normalization", "group"]
SETTINGS = ["--base-filters", "8", "--batch-size", "8", "--local-epochs", "2", "--learning-rate", "0.01"]


def main() -> int:
    """Make the folders, start everybody, run, end everybody."""
    parser = argparse.ArgumentParser(prog="deploy-demo", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with images/ and masks/ to share out, instead of drawn ones")
    parser.add_argument("--images", type=int, default=40, help="drawn images for each hospital [40]")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of federation [3]")
    parser.add_argument("--size", type=int, default=64, help="side of the images in training, pixels [64]")
    parser.add_argument("--sites", default="oslo,bergen,tromso", help="names of the hospitals [oslo,bergen,tromso]")
    parser.add_argument("--out", type=Path, help="folder to keep everything in [a temporary one, removed]")
    parser.add_argument("--evaluate", action="store_true", help="then have the sites score the model, training nothing")
    parser.add_argument("--privacy", action="store_true", help="the sites add noise, up to epsilon 8, and no further")
    parser.add_argument(
        "settings",
        nargs="*",
        help=f"after --: options of 'site run' [{' '.join(SETTINGS)}; with --privacy {' '.join(PRIVATE)}]",
    )
    chosen = parser.parse_args()
    chosen.settings = chosen.settings or (PRIVATE if chosen.privacy else SETTINGS)
    signal.signal(signal.SIGTERM, end)
    folder = chosen.out or Path(tempfile.mkdtemp(prefix="deploy-demo-"))
    try:
        (share_out if chosen.data else draw)(folder / "images", chosen)
        return play(folder, chosen)
    finally:
        if chosen.out is None:
            shutil.rmtree(folder)


def end(*_: object) -> None:
    """Leave by the way that ends everything which was started; a second signal does not cut that short."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


def play(folder: Path, chosen: argparse.Namespace) -> int:
    """Serve, register, join, run; returns the run's exit code."""
    deploy, door, control = folder / "deploy", free_port(), free_port()
    coordinator = deploy / "coordinator"
    sites = chosen.sites.split(",")
    fedpolyp("site", "init", "--coordinator=localhost", f"--sites={chosen.sites}", f"--out={deploy}", f"--port={door}")
    settings = coordinator / "coordinator.toml"
    settings.write_text(settings.read_text().replace("control_port = 18080", f"control_port = {control}"))
    with contextlib.ExitStack() as started:
        serve = ("site", "serve", f"--folder={coordinator}", "--listen=127.0.0.1")
        started.enter_context(running(serve, folder / "serve.log"))
        for port in (door, control):
            wait_for(port)
        fedpolyp("site", "register", f"--folder={coordinator}")
        for site in sites:
            if chosen.privacy:
                limit(deploy / site / "site.toml", units=chosen.images)
            data, port = folder / "images" / site, free_port()
            join = ("site", "join", f"--folder={deploy / site}", f"--data={data}", f"--port={port}")
            started.enter_context(running(join, folder / f"{site}.log"))
        heldout = folder / "images" / HELD_OUT
        run = ("site", "run", f"--folder={coordinator}", f"--held-out-data={heldout}", f"--rounds={chosen.rounds}")
        config = folder / "experiment.toml"
        config.write_text(f"[data]\nimage_size = {chosen.size}\n")
        began = time.monotonic()
        code = subprocess.run([*FEDPOLYP, *run, f"--config={config}", *chosen.settings]).returncode
        print(f"the run took {time.monotonic() - began:.0f} s and ended with exit code {code}", flush=True)
        if chosen.evaluate and code == 0:
            (trained,) = (coordinator / "runs").iterdir()
            model = trained / "model-last.keras"
            fedpolyp("site", "run", f"--folder={coordinator}", f"--evaluate={model}", f"--out={folder / 'scored'}")
        if chosen.privacy and code == 0:
            print("another run, whose steps no site has the budget for:", flush=True)
            subprocess.run([*FEDPOLYP, *run, f"--config={config}", *chosen.settings, "--seed=1"])
        fedpolyp("site", "status", f"--folder={coordinator}")
        fedpolyp("site", "log", f"--folder={deploy / sites[0]}", "--last=6")
    return code


def limit(settings: Path, units: int) -> None:
    """Have a site take part in runs with privacy only: it declares its units, and has a budget of epsilon 8."""
    text = settings.read_text().replace("# declared_units =", f"declared_units = {units}  #")
    settings.write_text(text.replace("# epsilon =", "epsilon = 8.0  #"))


def fedpolyp(*arguments: str) -> None:
    """Run a command that must succeed."""
    print(f"$ fedpolyp {' '.join(arguments)}", flush=True)
    subprocess.run([*FEDPOLYP, *arguments], check=True)


@contextlib.contextmanager
def running(
    arguments: Sequence[str], log: Path, program: Sequence[str] = FEDPOLYP
) -> Iterator["subprocess.Popen[bytes]"]:
    """Keep a command running in the background; end it, and wait until it has ended what it started."""
    print(f"$ fedpolyp {' '.join(arguments)} &", flush=True)
    with log.open("wb") as stream:
        process = subprocess.Popen([*program, *arguments], stdout=stream, stderr=stream, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll():
            print(f"it ended too early ({process.returncode}):", *log.read_text().splitlines()[-5:], sep="\n  ")
        process.terminate()
        process.wait()


def free_port() -> int:
    """A TCP port that nobody listens on, and that the system gives to nobody who does not ask for it by number."""
    while True:
        port = _PORTS.randrange(20_000, 32_000)  # below those of outgoing connections
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_for(port: int, seconds: float = 120, host: str = "127.0.0.1") -> None:
    """Wait until somebody listens on `port`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit(f"nobody listens on port {port} after {seconds:.0f} s") from None
            time.sleep(0.2)


def draw(folder: Path, chosen: argparse.Namespace) -> None:
    """Draw frames for each party, with its own look."""
    parties = [*chosen.sites.split(","), HELD_OUT]
    images, masks, look = phantom.draw(chosen.images * len(parties), 2 * chosen.size, len(parties), seed=0)
    for number, party in enumerate(parties):
        for part, pictures in (("images", images[..., ::-1]), ("masks", masks * 255)):
            (folder / party / part).mkdir(parents=True)
            for frame in (look == number).nonzero()[0]:
                cv2.imwrite(str(folder / party / part / f"frame-{frame:04d}.png"), pictures[frame])


def share_out(folder: Path, chosen: argparse.Namespace) -> None:
    """Assign a folder's images to the parties in turn, by links."""
    parties = [*chosen.sites.split(","), HELD_OUT]
    for part in ("images", "masks"):
        files = sorted(file for file in (chosen.data / part).iterdir() if file.suffix.lower() in SUFFIXES)
        for number, party in enumerate(parties):
            (folder / party / part).mkdir(parents=True)
            for file in files[number :: len(parties)]:
                (folder / party / part / file.name).symlink_to(file.resolve())


if __name__ == "__main__":
    sys.exit(main())
