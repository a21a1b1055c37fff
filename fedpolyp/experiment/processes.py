"""Carries out runs, each in its own process, and reports their progress."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fedpolyp.config import Config, RuntimeConfig
from fedpolyp.errors import FedpolypError
from fedpolyp.experiment.comparison import Job

LOG = "process.log"  # in a run's folder: the output of its process
_POLL_SECONDS = 0.3
_GRACE_SECONDS = 30.0
_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec, loading could wait for another thread's lock for ever
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, <linux/prctl.h>


class Screen(Protocol):
    """Receives the progress of runs."""

    def begun(self, run: str, rounds: int, done: int) -> None:
        """A run of this many rounds begins, or resumes after `done` of them."""

    def round(self, run: str, record: dict[str, Any], rounds: int) -> None:
        """A run has finished a round."""

    def note(self, text: str) -> None:
        """Something that the user should know."""


@dataclass(frozen=True)
class Failure:
    """A job's failure, and whether it may succeed on a second try: its process advised to resume, or was killed."""

    text: str
    passing: bool


def carry_out(
    left: Sequence[Job], base: Config, screen: Screen, again: str = "the same command resumes"
) -> list[Failure]:
    """Carry out jobs, each in its own process; returns the failures of the jobs that failed.

    A run without a federation keeps one core busy, so as many run side by side as there would be actors; a federated
    run has all actors to itself. A job with more rounds than its run extends the run.

    Raises:
        FedpolypError: it was interrupted; `again` is the command that resumes.
    """
    waiting = sorted(left, key=lambda job: job.config.federated)
    running: list[_Running] = []
    failures: list[Failure] = []
    try:
        while waiting or running:
            while waiting and _fits(waiting[0], running, base.runtime.actors or 1):
                running.append(_Running.start(waiting.pop(0), base, screen))
            time.sleep(_POLL_SECONDS)
            for one in list(running):
                one.tell(screen)
                if one.process.poll() is not None:
                    running.remove(one)
                    if failure := one.failure():
                        failures.append(Failure(f"{one.job.name}: {failure.text}", failure.passing))
                        screen.note(failures[-1].text)
    except KeyboardInterrupt:
        raise FedpolypError(
            f"interrupted with {len(waiting) + len(running)} of {len(left)} runs unfinished; {again}"
        ) from None
    finally:
        for one in running:
            one.stop()
    return failures


def _fits(job: Job, running: list["_Running"], actors: int) -> bool:
    if job.config.federated:
        return not running
    return len(running) < actors and not any(one.job.config.federated for one in running)


@dataclass
class _Running:
    """A job and the process that carries it out."""

    job: Job
    process: subprocess.Popen[bytes]
    log: Path
    told: int

    @classmethod
    def start(cls, job: Job, base: Config, screen: Screen) -> "_Running":
        log = job.run.path / LOG
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(log, flags, 0o666), "wb") as stream:
            # A separate process group: Ctrl-C is handled here, and reaches the child once, from `stop`.
            process = subprocess.Popen(
                [*resume_command(job.run.path, _runtime(job, base)), *_more_rounds(job)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                process_group=0,
                preexec_fn=_die_with_us,
            )
        screen.begun(job.name, job.config.federation.rounds, job.rounds_done)
        return cls(job, process, log, job.rounds_done)

    def tell(self, screen: Screen) -> None:
        """Report the rounds that were finished since the last call."""
        records = self.job.run.rounds()
        for record in records[self.told + 1 :]:
            screen.round(self.job.name, record, self.job.config.federation.rounds)
        self.told = len(records) - 1

    def failure(self) -> Failure | None:
        """The failure of the ended process; None if it succeeded."""
        if self.process.returncode == 0:
            return None
        said = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        own = [line.removeprefix("fedpolyp: ") for line in said if line.startswith("fedpolyp: ")]
        if not own:
            return Failure(f"its process ended with {self.process.returncode}; see {self.log}", passing=True)
        return Failure(own[-1], passing=any("resume with: " in line for line in said))

    def stop(self) -> None:
        """Interrupt the process, and wait for it for a limited time."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _runtime(job: Job, base: Config) -> RuntimeConfig:
    """The runtime settings of the whole comparison that apply to the arm of `job`."""
    return base.runtime if job.config.federated else base.runtime.model_copy(update={"ray_address": None})


def _more_rounds(job: Job) -> list[str]:
    rounds = job.config.federation.rounds
    return [] if rounds == job.run.config().federation.rounds else [f"--rounds={rounds}"]


def resume_command(run: Path, runtime: RuntimeConfig) -> list[str]:
    """The command that carries out the run in the folder `run`, with the runtime settings of the whole comparison."""
    given = {name: value for name, value in runtime.model_dump().items() if value is not None}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    return [sys.executable, "-P", "-m", "fedpolyp", "simulate", "--resume", str(run), "--quiet", *options]


def _die_with_us() -> None:
    """Let the kernel interrupt this process when its parent dies: a killed comparison leaves no process behind."""
    # A shell makes background processes ignore SIGINT, and their children would inherit this.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGINT)
