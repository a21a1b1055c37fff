"""A comparison that is ready to be carried out: its run folders, and the notes to print before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedpolyp.config import Config, rated
from fedpolyp.data.partition.given import noted_partition
from fedpolyp.errors import FedpolypError, UsageError
from fedpolyp.experiment.comparison import Arm, Job, begun_in, jobs, prepare, refuse_other
from fedpolyp.experiment.processes import Failure, Screen, carry_out
from fedpolyp.experiment.settled import settled
from fedpolyp.experiment.warm_start import seen_before
from fedpolyp.files import write_text
from fedpolyp.model.weights import noted
from fedpolyp.planning import planned, this_machine
from fedpolyp.runs import refuse_in_run


@dataclass(frozen=True)
class Prepared:
    """A comparison that can be carried out: its runs, their common settings, and the notes to print before."""

    jobs: Sequence[Job]
    base: Config
    notes: Sequence[str]

    def carry_out(self, screen: Screen) -> list[Failure]:
        """Carry out what is not finished; returns the failures of the runs that failed."""
        for note in self.notes:
            screen.note(note)
        return carry_out([job for job in self.jobs if not job.finished], self.base, screen)

    def refuse(self, failures: Sequence[Failure]) -> None:
        """Raise a FedpolypError about the `failures`, if there are any."""
        if failures:
            advice = "; the same command resumes" if any(failure.passing for failure in failures) else ""
            raise FedpolypError(f"{len(failures)} of {len(self.jobs)} runs failed{advice}: {failures[0].text}")


def prepared(
    out: Path,
    base: Config,
    arms: Sequence[Arm],
    command: str,
    *,
    seeds: int = 1,
    rounds: Mapping[str, int] | None = None,
    learning_rates: Mapping[str, float] | None = None,
) -> Prepared:
    """Make the run folders of a comparison in `out`, or find existing ones.

    Args:
        out: a new folder, or one where the same comparison was begun.
        base: the settings that the arms have in common; relative paths in it become absolute.
        command: the user's command, for the report.
        arms, seeds, rounds, learning_rates: see `jobs`.

    Raises:
        UsageError: the settings, the images or the folder cannot be used.
    """
    refuse_in_run(out)
    refuse_other(out)
    base, plan = planned(noted_partition(noted(base)), this_machine(), begun_in(out))
    refuse_left_out(base, arms)
    wanted = jobs(out, base, arms=arms, seeds=seeds, rounds=rounds, learning_rates=learning_rates)
    # An arm may have its own initial weights.
    wanted = [replace(job, config=rated(noted(settled(job.config)))) for job in wanted]
    if base.runtime.ray_address is not None and not any(job.config.federated for job in wanted):
        raise UsageError("--ray-address is for federated arms only, and there is none")

    # Imported only now: an error in the settings is reported before the images are read.
    from fedpolyp.data.partition.assign import partition_notes
    from fedpolyp.data.source import open_source

    store = open_source(base.data, base.data_seed)
    wanted = prepare(wanted, store)
    write_text(out / "command.txt", command + "\n")
    partition = wanted[0].run.partition()
    notes = [*partition_notes(store.records, base, partition), *filter(None, [plan]), *_unused(wanted)]
    notes += dict.fromkeys(note for job in wanted for note in seen_before(job.config, store, partition))
    if done := sum(job.finished for job in wanted):
        notes.append(f"{done} of {len(wanted)} runs are finished already")
    return Prepared(wanted, base, notes)


def refuse_left_out(base: Config, arms: Sequence[Arm]) -> None:
    """Refuse a comparison without an arm of the algorithm that its settings name.

    Raises:
        UsageError: there is no such arm.
    """
    name = base.algorithm.name
    arms_of = {arm.settings.get("algorithm.name", name) for arm in arms}
    if base.algorithm != Config().algorithm and name not in arms_of:
        raise UsageError(f"the settings choose the algorithm {name}, but no arm has it: add {name} to --arms")


def _unused(wanted: Sequence[Job]) -> Iterator[str]:
    """For each federated arm, the settings without effect; for the pooled arm, those with another meaning.

    Pooled and local training are expected to ignore the settings of a federation.
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
