"""What the server does, against Flower's strategies where they compute the same, else against the papers by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from flwr.common import FitRes, Parameters, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.typing import Code
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAdagrad as FlowersFedAdagrad
from flwr.server.strategy import FedAvg as FlowersFedAvg
from flwr.server.strategy import FedAvgM as FlowersFedAvgM
from flwr.server.strategy import FedMedian, FedTrimmedAvg
from flwr.server.strategy import FedYogi as FlowersFedYogi
from flwr.server.strategy import Krum as FlowersKrum

from fedpolyp.aggregation.aggregate import Update
from fedpolyp.algorithms.base import MODEL, OPTIMIZER, Algorithm, Groups, NoSettings, Start
from fedpolyp.algorithms.fedavg import FedAvg
from fedpolyp.algorithms.robust import Krum, Median, MultiKrum, TrimmedMean, krum_scores
from fedpolyp.algorithms.server_optimizers import FIRST, SECOND, FedAdagrad, FedAdam, FedAvgM, FedYogi
from fedpolyp.model.arrays import Arrays

SHAPES = {"kernel": (2, 3), "bias": (4,)}


def drawn(seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def start() -> Start:
    return Start(drawn(99), {})


def updates(number: int, round: int = 0) -> list[Update]:
    return [
        Update(f"h{place}", {MODEL: drawn(100 * round + place)}, float(10 + place), 10 + place, 0.0, 1)
        for place in range(number)
    ]


def stepped(algorithm: Algorithm, state: Groups, came: Sequence[Update]) -> Groups:
    aggregate = algorithm.aggregate()
    for update in came:
        aggregate.add(update)
    return algorithm.combine(state, aggregate.result())


def flowers(strategy: Any, state: Arrays, came: Sequence[Update], round: int) -> list[np.ndarray]:
    """What Flower's strategy makes of the same hospitals' weights."""

    class Proxy(ClientProxy):
        def __init__(self) -> None:
            super().__init__("h")

        get_properties = get_parameters = fit = evaluate = reconnect = None  # type: ignore[assignment]

    def reply(update: Update) -> FitRes:
        weights = [state[name] + update.changes[MODEL][name] for name in SHAPES]
        return FitRes(Status(Code.OK, ""), ndarrays_to_parameters(weights), update.images, {})

    parameters, _ = strategy.aggregate_fit(round, [(Proxy.__new__(Proxy), reply(update)) for update in came], [])
    assert isinstance(parameters, Parameters)
    return parameters_to_ndarrays(parameters)


def same(found: Arrays, expected: Sequence[np.ndarray]) -> None:
    for name, array in zip(SHAPES, expected, strict=True):
        np.testing.assert_allclose(found[name], array, rtol=2e-5, atol=2e-6)


def initial(state: Arrays) -> Parameters:
    return ndarrays_to_parameters([state[name] for name in SHAPES])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (FedAvg(NoSettings()), FlowersFedAvg()),
        (Median(NoSettings()), FedMedian()),
        (TrimmedMean(TrimmedMean.Settings(trim=0.2)), FedTrimmedAvg(beta=0.2)),
        (Krum(Krum.Settings(byzantine=1)), FlowersKrum(num_malicious_clients=1)),
        (MultiKrum(Krum.Settings(byzantine=1)), FlowersKrum(num_malicious_clients=1, num_clients_to_keep=4)),
    ],
    ids=["fedavg", "median", "trimmed-mean", "krum", "multi-krum"],
)
def test_one_round_is_flowers(ours: Algorithm, theirs: Any) -> None:
    state, came = ours.begin(start()), updates(5)
    if isinstance(ours, MultiKrum):  # Flower weighs the chosen by their images; a weight would be a liar's to choose
        came = [Update(u.hospital, u.changes, 10.0, 10, u.loss, u.steps) for u in came]
    same(stepped(ours, state, came)[MODEL], flowers(theirs, state[MODEL], came, 1))


def test_three_rounds_of_momentum_are_flowers() -> None:
    ours = FedAvgM(FedAvgM.Settings(server_rate=0.7, server_momentum=0.8))
    state = ours.begin(start())
    theirs = FlowersFedAvgM(server_learning_rate=0.7, server_momentum=0.8, initial_parameters=initial(state[MODEL]))
    for round in (1, 2, 3):
        came = updates(4, round)
        expected = flowers(theirs, state[MODEL], came, round)
        theirs.initial_parameters = ndarrays_to_parameters(expected)
        state = stepped(ours, state, came)
        same(state[MODEL], expected)


@pytest.mark.parametrize(
    ("ours", "kind", "options"),
    [
        (FedAdagrad(FedAdagrad.Settings(server_rate=0.3, tau=0.01)), FlowersFedAdagrad, {}),
        (
            FedYogi(FedYogi.Settings(server_rate=0.3, beta1=0.8, beta2=0.95, tau=0.01)),
            FlowersFedYogi,
            {"beta_1": 0.8, "beta_2": 0.95},
        ),
    ],
    ids=["fedadagrad", "fedyogi"],
)
def test_three_rounds_of_adaptive_steps_are_flowers(ours: Algorithm, kind: Any, options: dict[str, float]) -> None:
    state = dict(ours.begin(start()))
    state[SECOND] = {name: np.zeros_like(array) for name, array in state[SECOND].items()}  # where Flower begins
    theirs = kind(eta=0.3, tau=0.01, initial_parameters=initial(state[MODEL]), **options)
    for round in (1, 2, 3):
        came = updates(4, round)
        expected = flowers(theirs, state[MODEL], came, round)
        state = dict(stepped(ours, state, came))
        same(state[MODEL], expected)


def test_fedadam_is_the_papers_algorithm_two() -> None:
    # Flower's corrects the bias of its moments, which the paper does not.
    ours = FedAdam(FedAdam.Settings(server_rate=0.3, beta1=0.8, beta2=0.95, tau=0.01))
    state = ours.begin(start())
    x = {name: array.astype(np.float64) for name, array in state[MODEL].items()}
    m = {name: np.zeros_like(array) for name, array in x.items()}
    v = {name: np.full_like(array, 0.01**2) for name, array in x.items()}
    for round in (1, 2, 3):
        came = updates(3, round)
        state = stepped(ours, state, came)
        weights = [update.weight for update in came]
        for name in x:
            delta = np.average([update.changes[MODEL][name] for update in came], axis=0, weights=weights)
            m[name] = 0.8 * m[name] + 0.2 * delta
            v[name] = 0.95 * v[name] + 0.05 * delta**2
            x[name] = x[name] + 0.3 * m[name] / (np.sqrt(v[name]) + 0.01)
        same(state[MODEL], list(x.values()))


@pytest.mark.parametrize("kind", [FedAvgM, FedAdagrad, FedAdam, FedYogi])
def test_server_optimizers_average_statistics_and_optimizer_states_and_never_step_on_them(kind: Any) -> None:
    algorithm = kind(kind.Settings(), averages_optimizer=True)
    model = {"bn/gamma": np.ones(1, np.float32), "bn/moving_variance": np.full(1, 4.0, np.float32)}
    state = algorithm.begin(Start(model, {"iterations": np.array(7)}))
    assert state[FIRST].keys() == {"bn/gamma"}
    changes = {
        MODEL: {"bn/gamma": np.zeros(1, np.float32), "bn/moving_variance": np.full(1, -3.0, np.float32)},
        OPTIMIZER: {"iterations": np.array(5)},
    }
    for _ in range(2):
        state = stepped(algorithm, state, [Update("h", changes, 1.0, 1, 0.0, 5)])
    assert state[MODEL]["bn/moving_variance"] == 0.0  # 4 - 3 - 3 is below zero, where no variance can be
    assert state[OPTIMIZER]["iterations"] == 17


def test_krum_scores_are_sums_of_the_nearest_distances() -> None:
    points = [np.array([x]) for x in (0.0, 1.0, 2.0, 3.0, 100.0)]
    # n = 5, f = 1: the two nearest others.
    assert krum_scores(points, 1) == [1 + 4, 1 + 1, 1 + 1, 1 + 4, 97.0**2 + 98.0**2]


def test_krum_refuses_too_few_updates_for_its_liars() -> None:
    algorithm = Krum(Krum.Settings(byzantine=2))
    with pytest.raises(ValueError, match="needs 7 updates; got 6"):
        stepped(algorithm, algorithm.begin(start()), updates(6))


@pytest.mark.parametrize(
    "algorithm", [Median(NoSettings()), TrimmedMean(TrimmedMean.Settings(trim=0.2)), Krum(Krum.Settings()),
                  MultiKrum(Krum.Settings())], ids=["median", "trimmed-mean", "krum", "multi-krum"]
)  # fmt: skip
def test_one_liar_of_five_cannot_take_the_model_far(algorithm: Algorithm) -> None:
    state = algorithm.begin(start())
    honest = updates(4)
    liar = Update(
        "liar", {MODEL: {name: np.full(shape, 1e6, np.float32) for name, shape in SHAPES.items()}}, 1e6, 10**6, 0.0, 1
    )
    after = stepped(algorithm, state, [*honest, liar])[MODEL]
    for name in SHAPES:
        assert np.abs(after[name] - state[MODEL][name]).max() < 5


def test_trimming_leaves_out_one_at_either_end_also_of_those_who_are_left() -> None:
    algorithm = TrimmedMean(TrimmedMean.Settings(trim=0.2))
    assert algorithm.middle(np.array([[1e9], [1.0], [2.0], [-1.0]])) == 1.5  # a fifth of four is less than one
    assert algorithm.middle(np.array([[1e9], [1.0], [2.0]])) == 2.0
    assert algorithm.middle(np.array([[1.0], [2.0]])) == 1.5
    assert TrimmedMean(TrimmedMean.Settings(trim=0.0)).middle(np.array([[6.0], [0.0], [0.0]])) == 2.0


def test_trimming_counts_as_it_was_typed() -> None:
    algorithm = TrimmedMean(TrimmedMean.Settings(trim=0.29))
    values = np.zeros((100, 1))
    values[:29], values[71:] = -1e9, 1e9
    assert algorithm.middle(values) == 0.0
