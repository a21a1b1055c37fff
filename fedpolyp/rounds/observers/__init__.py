"""Observers: they run after each round, one file for each, and never change the bits of the next round."""

from fedpolyp.errors import UsageError
from fedpolyp.own_code import imported
from fedpolyp.rounds.asking import Asking
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.rounds.image_counts import ImageCounts
from fedpolyp.rounds.observers.heldout import HeldOut
from fedpolyp.rounds.observers.hospital_scores import Tests, Validation
from fedpolyp.rounds.observers.images import ScoredImages
from fedpolyp.rounds.observers.mlflow import MLflow
from fedpolyp.rounds.observers.noisy_scores import NoisyScores
from fedpolyp.rounds.observers.observer import Observer, Round
from fedpolyp.rounds.observers.own import Own
from fedpolyp.rounds.observers.patience import Patience
from fedpolyp.rounds.observers.saving import Checkpoints, Record, Told
from fedpolyp.rounds.observers.unseen import Unseen


def observers_of(experiment: Experiment, asking: Asking, counts: ImageCounts) -> list[Observer]:
    """A run's observers, in the order in which they are called.

    Raises:
        UsageError: one of the user's own cannot be loaded.
    """
    heldout = HeldOut(experiment)  # computes here while the hospitals score
    unseen = Unseen(experiment)
    tests = Tests(experiment, asking, counts)
    return [
        heldout,
        Validation(experiment, asking, counts),
        Patience(experiment),
        unseen,
        tests,
        Own(experiment, _own(experiment), at_the_end=[unseen, tests]),
        NoisyScores(experiment, asking),
        Record(experiment),
        Checkpoints(experiment),
        Told(experiment),
        *([MLflow(experiment)] if experiment.config.runtime.track == "mlflow" else []),
        ScoredImages(experiment, heldout, unseen, tests),
    ]


def _own(experiment: Experiment) -> list[Observer]:
    try:
        places = experiment.config.runtime.own_observers
        return [imported(place, Observer, f"the observer {place}")(experiment) for place in places]
    except ValueError as error:
        raise UsageError(str(error)) from None


__all__ = ["Observer", "Round", "observers_of"]
