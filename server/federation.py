"""A federation through Flower: the seats of a simulation, or real sites, as the rounds' exchange."""

from flwr.serverapp import Grid

from fedpolyp.rounds.experiment import Experiment
from fedpolyp.rounds.loop import carry
from server.exchange import Packed, Seats

_SEATS_TIMEOUT = 120.0


def run_on(experiment: Experiment, grid: Grid, seats: int = 1, actors: int | None = None) -> None:
    """Carry out the experiment from its newest checkpoint, or from the start, to its last round.

    Args:
        experiment: what to carry out.
        grid: Flower's way to the nodes.
        seats: how many nodes to wait for before the first request is sent.
        actors: how many processes play the nodes, if known: another process then means that one has died.

    Raises:
        FedpolypError: too few nodes or hospitals replied, or the run folder cannot be resumed from.
        Interrupted: the experiment's `stop` was set; the run folder holds every complete round.
    """
    stop, timeout, note = experiment.stop, experiment.config.federation.round_timeout, experiment.watcher.note
    packed = Packed(experiment.config.training.wire == "bfloat16")
    if experiment.name_at_sites:
        table = Seats(grid, (), stop, timeout, own_names=True, patience=[_SEATS_TIMEOUT], note=note, packed=packed)
    else:
        sizes = {name: len(images.train) for name, images in experiment.partition.hospitals.items()}
        table = Seats.wait(grid, seats, stop, _SEATS_TIMEOUT, timeout, actors, sizes, note, packed)
    carry(experiment, table)
