"""Measures rounds of a deployment over hospital links: three sites and a coordinator, each in its own network.

For each kind of link: the seconds of a round, and the bytes that the links carried, all of TCP and TLS included.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from scripts.deploy_demo import FEDPOLYP, draw, end, free_port, running
from scripts.links import DOWN, UP, Hospitals, Line

SITES = ("oslo", "bergen", "tromso")
FAST = Line(1000, 0, 0)
LINKS = {"machine": (FAST, FAST), "hospital": (UP, DOWN)}
CUT_SECONDS = 90


def main() -> int:
    """Run each kind of link and print a table."""
    parser = argparse.ArgumentParser(prog="measure-links", description=__doc__)
    parser.add_argument("--images", type=int, default=40, help="drawn images for each hospital [40]")
    parser.add_argument("--size", type=int, default=128, help="side of the images in training, pixels [128]")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of federation [2]")
    parser.add_argument("--cases", default="machine,hospital,cut", help="which to measure [machine,hospital,cut]")
    parser.add_argument("settings", nargs="*", help="after --: options of 'site run'")
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("only root may make networks")
    folder = Path(tempfile.mkdtemp(prefix="measure-links-"))
    try:
        os.environ["FEDPOLYP_STORES"] = str(folder / "stores")
        chosen.sites = ",".join(SITES)
        draw(folder / "images", chosen)
        rows = [measure(folder / case, folder / "images", case, chosen) for case in chosen.cases.split(",")]
    finally:
        shutil.rmtree(folder)
    print("| link | seconds of each round | MB up, MB down of a site, in all | refused |\n|---|---|---|---|")
    print(*rows, sep="\n")
    return 0


def measure(folder: Path, images: Path, case: str, chosen: argparse.Namespace) -> str:
    """Serve, register, join and run; returns a row of the table."""
    port, control, deploy = free_port(), free_port(), folder / "deploy"
    up, down = LINKS["hospital" if case == "cut" else case]
    with Hospitals(SITES, up, down) as hospitals, ExitStack() as started:
        inside = {name: (*space.enter, *FEDPOLYP) for name, space in hospitals.spaces.items()}
        coordinator = deploy / "coordinator"
        init = ("site", "init", f"--coordinator={hospitals.ADDRESS}", f"--sites={chosen.sites}", f"--out={deploy}")
        subprocess.run([*FEDPOLYP, *init, f"--port={port}"], check=True)
        settings = coordinator / "coordinator.toml"
        settings.write_text(settings.read_text().replace("control_port = 18080", f"control_port = {control}"))
        started.enter_context(
            running(("site", "serve", f"--folder={coordinator}"), folder / "serve.log", inside["coordinator"])
        )
        register = [*inside["coordinator"], "site", "register", f"--folder={coordinator}"]
        deadline = time.monotonic() + 120
        while subprocess.run(register, capture_output=True).returncode:
            if time.monotonic() > deadline:
                raise SystemExit("the coordinator does not serve")
            time.sleep(1)
        for site in SITES:
            join = ("site", "join", f"--folder={deploy / site}", f"--data={images / site}")
            started.enter_context(running(join, folder / f"{site}.log", inside[site]))
        config, out = folder / "experiment.toml", folder / "run"
        config.write_text(f"[data]\nimage_size = {chosen.size}\n")
        run = ("site", "run", f"--folder={coordinator}", f"--config={config}", f"--held-out-data={images / 'held-out'}")
        options = (f"--out={out}", f"--rounds={chosen.rounds}", "--quiet", *chosen.settings)
        if case == "cut":
            cut = threading.Thread(target=cut_in_a_reply, args=(hospitals, folder / "tromso.log"), daemon=True)
            cut.start()
        subprocess.run([*inside["coordinator"], *run, *options], check=True)
        links = hospitals.links.values()
        carried = [(link.up.bytes / 1e6, link.down.bytes / 1e6) for link in links]
    rounds = [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()][1:]
    seconds = ", ".join(f"{record['seconds']:.0f}" for record in rounds)
    mean = [sum(way) / len(carried) for way in zip(*carried, strict=True)]
    refused = sum(len(record["refused"]) for record in rounds)
    return f"| {case} | {seconds} | {mean[0]:.0f}, {mean[1]:.0f} | {refused} |"


def cut_in_a_reply(hospitals: Hospitals, log: Path) -> None:
    """Cut the link of tromso for 90 s in the middle of its first reply to a training request."""
    while not (log.exists() and "Sending: train message" in log.read_text(errors="replace")):
        time.sleep(0.2)
    link = hospitals.links["tromso"]
    before = link.up.bytes
    while link.up.bytes < before + 3e6:
        time.sleep(0.2)
    link.cut()
    print(f"the link of tromso is cut for {CUT_SECONDS} s", flush=True)
    time.sleep(CUT_SECONDS)
    link.mend()


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGTERM, end)
    sys.exit(main())
