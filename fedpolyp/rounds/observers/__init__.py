"""What sees each round after it, and never changes the next one's bits: one file an observer."""

from fedpolyp.rounds.asking import Asking
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.rounds.image_counts import ImageCounts
from fedpolyp.rounds.observers.heldout import HeldOut
from fedpolyp.rounds.observers.hospital_scores import HospitalScores
from fedpolyp.rounds.observers.images import ScoredImages
from fedpolyp.rounds.observers.observer import Observer, Round
from fedpolyp.rounds.observers.saving import Checkpoints, Record, Told


def observers_of(experiment: Experiment, asking: Asking, counts: ImageCounts) -> list[Observer]:
    """A run's observers, in the order in which they see a round."""
    heldout = HeldOut(experiment)  # computes here while the hospitals score
    hospitals = HospitalScores(experiment, asking, counts)
    return [
        heldout,
        hospitals,
        Record(experiment),
        Checkpoints(experiment),
        Told(experiment),
        ScoredImages(experiment, heldout, hospitals),
    ]


__all__ = ["Observer", "Round", "observers_of"]
