"""The loop: a round is the hospitals' training, what the algorithm makes of it, and what the observers see."""

from collections.abc import Sequence
from itertools import takewhile

from fedpolyp import checkpoints
from fedpolyp.algorithms.base import Start, models
from fedpolyp.checkpoints import Best, Checkpoint
from fedpolyp.errors import FedpolypError, Interrupted, UsageError
from fedpolyp.exchange.replies import Exchange
from fedpolyp.privacy.words import NO_HELD_OUT
from fedpolyp.rounds.asking import Asking
from fedpolyp.rounds.counted import Counted
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.rounds.image_counts import ImageCounts
from fedpolyp.rounds.observers import Observer, Round, observers_of
from fedpolyp.rounds.refusing import refuse_impossible
from fedpolyp.rounds.state import begun, held
from fedpolyp.rounds.training import Training
from fedpolyp.runs import RoundRecord, RunFolder
from fedpolyp.training import shared_trainer

MOST_LOST = 3  # rounds in a row whose secure sums stay closed; then the run stops, and somebody should find out why


def carry(experiment: Experiment, exchange: Exchange) -> None:
    """Carry the run from its newest checkpoint, or from the start, to its last round.

    Raises:
        FedpolypError: too few hospitals replied, or too few for the algorithm; a training diverged, or the run folder
            cannot be resumed from.
        Interrupted: the experiment's `stop` was set; the run folder holds every complete round.
    """
    run, rounds = experiment.run, experiment.config.federation.rounds
    checkpoint = _newest_checkpoint(experiment)
    if experiment.config.privacy.on and experiment.store is None:
        raise UsageError(NO_HELD_OUT)
    records = {} if experiment.store is None else {record.id: record for record in experiment.store.records}
    done, simulated = 0 if checkpoint is None else checkpoint.round, not experiment.name_at_sites
    refuse_impossible(experiment.config, experiment.partition, done, records if simulated else None)
    experiment.watcher.started(experiment.config, experiment.partition, -1 if checkpoint is None else checkpoint.round)
    exchange.connect(experiment.hospitals, experiment.needed(len(experiment.hospitals)))
    asking = Asking(experiment, exchange, Counted.of(run.rounds()))
    training = Training(experiment, exchange, asking, ImageCounts.in_run(experiment))
    observers = observers_of(experiment, asking, training.counts)
    if checkpoint is None:
        trainer = shared_trainer(experiment.config)
        state = begun(experiment.algorithm, Start(trainer.initial, trainer.start.optimizer))
        start = Checkpoint(0, run.fingerprint(), state, dict.fromkeys(models(state), Best()))
        checkpoint = _seen(observers, Round(start, RoundRecord(0), planned_last=not rounds)).checkpoint
    over = bool(run.stopped)
    while checkpoint.round < rounds and not over:
        if experiment.stop.is_set():
            raise Interrupted(f"interrupted after round {checkpoint.round}")
        number = checkpoint.round + 1
        record = RoundRecord(number)
        state = training.next_state(checkpoint, record)
        after = Checkpoint(number, checkpoint.fingerprint, state, checkpoint.best)
        seen = _seen(observers, Round(after, record, planned_last=number == rounds))
        checkpoint, over = seen.checkpoint, seen.last
        if record.lost and not over and (row := _lost_in_a_row(run)) >= MOST_LOST:
            raise FedpolypError(f"{row} rounds in a row were lost, the last one for this: {record.lost}")
    if 0 < checkpoint.round <= _lost_in_a_row(run):
        raise FedpolypError(f"all {checkpoint.round} rounds were lost, so nothing was learned: begin another run")
    for observer in observers:
        observer.end(checkpoint)


def _lost_in_a_row(run: RunFolder) -> int:
    """How many rounds at the end of `run` were lost."""
    return len(list(takewhile(lambda record: record.get("lost"), reversed(run.rounds()))))


def _seen(observers: Sequence[Observer], round: Round) -> Round:
    for observer in observers:
        observer.ask(round)
    for observer in observers:
        observer.see(round)
    return round


def _newest_checkpoint(experiment: Experiment) -> Checkpoint | None:
    run = experiment.run
    like = experiment.algorithm.begin(shared_trainer(experiment.config).start)
    checkpoint = checkpoints.latest(run.checkpoints, run.fingerprint(), experiment.watcher.note, like)
    if checkpoint is not None:
        run.rewind(checkpoint.round)
        held(checkpoint.state)
    else:
        run.start_over()
    return checkpoint
