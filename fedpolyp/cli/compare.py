"""`fedpolyp compare`: pooled, local-only and federated training on the same deal, and the report about them."""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedpolyp.algorithms.finding import BUILT_IN
from fedpolyp.cli.options import Given, settled, with_settings
from fedpolyp.config import Config, FederationConfig, RuntimeConfig, TrainingConfig
from fedpolyp.data.partition.given import noted_partition
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.experiment.comparison import (
    ARMS,
    Arm,
    Job,
    begun_in,
    jobs,
    named_arms,
    parse_arm,
    parse_learning_rates,
    parse_rounds,
    prepare,
    refuse_other,
    runs_in,
)
from fedpolyp.model.weights import noted
from fedpolyp.planning import planned, this_machine
from fedpolyp.runs import refuse_in_run

if TYPE_CHECKING:
    from fedpolyp.cli.screen import ComparisonScreen

_POLL_SECONDS = 0.3
_GRACE_SECONDS = 30.0
_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec that could wait for a lock of another thread for ever
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, <linux/prctl.h>


_ROUNDS = FederationConfig.model_fields["rounds"].default
_RATE = TrainingConfig.model_fields["learning_rate"].default


def _shown(default: object) -> str:
    return f"[dim]\\[{default}][/dim]"


@with_settings(
    sections=("data", "hospitals", "model", "training", "federation", "runtime"),
    without=("federation.rounds", "training.learning_rate"),
)
def compare(
    given: Given,
    out: Annotated[Path, typer.Option(help="folder of the comparison; the same command goes on in it")],
    rounds: Annotated[
        str | None, typer.Option(help=f"rounds of every arm, or by arm: pooled=40,fedavg=120  {_shown(_ROUNDS)}")
    ] = None,
    learning_rate: Annotated[
        str | None,
        typer.Option(help=f"of the first round, of every arm or by arm: pooled=0.001,fedavg=0.003  {_shown(_RATE)}"),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            help=f"how often everything is trained, with another seed each; 5 and more compare methods  {_shown(1)}",
            show_default=False,
        ),
    ] = 1,
    seed: Annotated[int | None, typer.Option(help=f"the first seed; also fixes the deal  {_shown(0)}")] = None,
    arms: Annotated[
        str | None,
        typer.Option(help=f"an arm for each algorithm: {', '.join(BUILT_IN)}  {_shown(','.join(ARMS))}"),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'LABEL: NAME=VALUE …'",
            help="one more arm, with settings of its own, as in 'near: algorithm=fedprox mu=0.1 "
            "training.learning_rate=0.01'; may be repeated",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but the last lines")] = False,
) -> None:
    """Compare federated with pooled and local-only training: same images, same hospitals, same initial weights."""
    refuse_in_run(out)
    refuse_other(out)
    overrides = {**given.overrides, **({} if seed is None else {"seed": seed})}
    base = noted_partition(noted(Given(given.file, given.preset, overrides).config()))
    base, plan = planned(base, this_machine(), begun_in(out))
    chosen = wanted_arms(arms, arm or ())
    refuse_left_out(base, chosen)
    wanted = jobs(
        out,
        base,
        arms=chosen,
        seeds=seeds,
        rounds=None if rounds is None else parse_rounds(rounds),
        learning_rates=None if learning_rate is None else parse_learning_rates(learning_rate),
    )
    # An arm may begin with weights of its own.
    wanted = [replace(job, config=noted(settled(job.config))) for job in wanted]

    if base.runtime.ray_address is not None and not any(job.config.federated for job in wanted):
        raise UsageError("--ray-address is for federations, and no arm is one")

    from fedpolyp.cli.console import console_of_its_own
    from fedpolyp.cli.report import show_report
    from fedpolyp.cli.screen import comparison_screen
    from fedpolyp.data.partition.deal import said_of_deal
    from fedpolyp.data.source import open_source
    from fedpolyp.files import write_text

    console = console_of_its_own()
    store = open_source(base.data, base.data_seed)
    wanted = prepare(wanted, store)
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    write_text(out / "command.txt", command + "\n")
    left = [job for job in wanted if not job.finished]
    with comparison_screen(console, quiet) as screen:
        for sentence in said_of_deal(store.records, base, wanted[0].run.partition()):
            screen.note(sentence)
        if plan:
            screen.note(plan)
        for said in _unused(wanted):
            screen.note(said)
        if learning_rate is None and base.training.learning_rate == _RATE:
            screen.note(
                f"every arm trains at learning rate {_RATE}, chosen for FedAvg; pooled training may do better "
                "at a lower one: --learning-rate pooled=0.001"
            )
        if len(left) < len(wanted):
            screen.note(f"{len(wanted) - len(left)} of {len(wanted)} runs are finished already")
        failures = carry_out(left, base, screen)
    if any(job.run.images_file.exists() for job in wanted):
        show_report(out, runs_in(out), command, console)
    if failures:
        advice = "; the same command goes on" if any(failure.passing for failure in failures) else ""
        raise FedpolypError(f"{len(failures)} of {len(wanted)} runs failed{advice}: {failures[0].text}")


def wanted_arms(names: str | None, described: Sequence[str]) -> list[Arm]:
    """The arms of `--arms` and `--arm`; those that are usual where neither was given.

    Raises:
        UsageError: one is none.
    """
    usual = list(ARMS) if names is None and not described else []
    return [*named_arms(usual if names is None else _names(names), bool(described)), *map(parse_arm, described)]


def _unused(wanted: Sequence[Job]) -> Iterator[str]:
    """What is set and has no effect in a federated arm, by arm, and what means another thing in the pooled one.

    That pooled and local training know nothing of a federation's settings is what they are for.
    """
    from fedpolyp.config.unused import unused

    partition = wanted[0].run.partition()
    arms = {job.config.label: job.config for job in wanted}
    for config in arms.values():
        if config.federated and (said := unused(config, partition)):
            yield said
        steps = config.training.local_steps
        if config.algorithm.name == "pooled" and steps is not None and len(arms) > 1:
            yield (
                f"{config.label} takes {steps} steps a round (--local-steps), the hospitals together "
                f"{steps * len(partition.hospitals)}"
            )


def refuse_left_out(base: Config, arms: Sequence[Arm]) -> None:
    """Refuse a comparison without an arm of the algorithm that its settings name.

    Raises:
        UsageError: it is one.
    """
    name = base.algorithm.name
    arms_of = {arm.settings.get("algorithm.name", name) for arm in arms}
    if base.algorithm != Config().algorithm and name not in arms_of:
        raise UsageError(f"the settings name the algorithm {name}, and no arm is of it: give --arms with {name} in it")


@dataclass(frozen=True)
class Failure:
    """What a job failed with, and whether it may not fail again: its process advised to go on, or was killed."""

    text: str
    passing: bool


def carry_out(left: list[Job], base: Config, screen: "ComparisonScreen") -> list[Failure]:
    """Carry out jobs, each in a process of its own; what a job failed with, for those that did.

    A run without a federation keeps one core busy, so as many go side by side as there would be actors; a federated
    run has all actors for itself.
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
            f"interrupted with {len(waiting) + len(running)} of {len(left)} runs unfinished; the same command goes on"
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
    def start(cls, job: Job, base: Config, screen: "ComparisonScreen") -> "_Running":
        log = job.run.path / "compare.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(log, flags, 0o666), "wb") as stream:
            # A group of its own: Ctrl-C is for us, and reaches the child once, from `stop`.
            process = subprocess.Popen(
                resume_command(job.run.path, _runtime(job, base)),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                process_group=0,
                preexec_fn=_die_with_us,
            )
        screen.begun(job.name, job.config.federation.rounds, job.rounds_done)
        return cls(job, process, log, job.rounds_done)

    def tell(self, screen: "ComparisonScreen") -> None:
        """Say how the rounds since the last time went."""
        records = self.job.run.rounds()
        for record in records[self.told + 1 :]:
            screen.round(self.job.name, record, self.job.config.federation.rounds)
        self.told = len(records) - 1

    def failure(self) -> Failure | None:
        """What the ended process failed with; None when it did not."""
        if self.process.returncode == 0:
            return None
        said = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        own = [line.removeprefix("fedpolyp: ") for line in said if line.startswith("fedpolyp: ")]
        if not own:
            return Failure(f"its process ended with {self.process.returncode}; see {self.log}", passing=True)
        return Failure(own[-1], passing=any("go on with: " in line for line in said))

    def stop(self) -> None:
        """Interrupt the process and wait for it, not for ever."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _runtime(job: Job, base: Config) -> RuntimeConfig:
    """The runtime settings of the whole comparison that are about the arm of `job`."""
    return base.runtime if job.config.federated else base.runtime.model_copy(update={"ray_address": None})


def resume_command(run: Path, runtime: RuntimeConfig) -> list[str]:
    """What carries out the run in the folder `run`, with the runtime settings given to the whole comparison."""
    given = {name: value for name, value in runtime.model_dump().items() if value is not None}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    return [sys.executable, "-P", "-m", "fedpolyp", "simulate", "--resume", str(run), "--quiet", *options]


def _die_with_us() -> None:
    """Let the kernel interrupt this process when its parent dies: a killed comparison leaves nobody at its runs."""
    # A shell makes what it starts in the background ignore SIGINT, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGINT)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
