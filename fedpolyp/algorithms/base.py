"""The base of all algorithms: the server's half and the hospital's half of a round, on named arrays; no Flower, no
Keras.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from fedpolyp.aggregation.aggregate import Aggregate, Combined
from fedpolyp.aggregation.mean import WeightedMean
from fedpolyp.model.arrays import Arrays, cannot_be_negative, is_statistic
from fedpolyp.section import Section

if TYPE_CHECKING:
    from fedpolyp.config import Config

# Arrays by purpose: 'model', 'optimizer', and what an algorithm adds.
Groups = Mapping[str, Arrays]

MODEL, OPTIMIZER = "model", "optimizer"


class NoSettings(Section):
    """For an algorithm without settings of its own."""


@dataclass(frozen=True)
class Start:
    """What a run begins with; it fixes the names, shapes and types of everything that is sent."""

    model: Arrays
    optimizer: Arrays  # the local optimizer's state before its first step

    @property
    def trainable(self) -> Arrays:
        """The model without its moving statistics: the arrays that gradients and server optimizers change."""
        return trainable(self.model)

    def zeros(self) -> Arrays:
        """Zeros like the trainable arrays."""
        return zeros(self.trainable)


@dataclass(frozen=True)
class Trained:
    """The result of one local training: new weights, the optimizer's state, the loss and the counts."""

    arrays: Arrays
    optimizer: Arrays
    loss: float  # mean over the images seen, each measured just before the step that used it
    images: int  # training images of the hospital
    steps: int
    gradient: Arrays = field(default_factory=dict)  # mean over the steps, uncorrected; only for `wants_gradients`


class Visit(Protocol):
    """A hospital in a round, as seen by the algorithm's half at the hospital."""

    @property
    def received(self) -> Groups:
        """What the server sent."""

    @property
    def kept(self) -> Groups:
        """The hospital's private state from its last training that counted; empty before the first."""

    @property
    def start(self) -> Start:
        """The names, shapes and types of the run's model and optimizer; the values are not the run's."""

    def train(self, arrays: Arrays, corrections: Groups | None = None) -> Trained:
        """Train on the hospital's images from `arrays`; `corrections` are those that `gradient` reads."""


@dataclass(frozen=True)
class Outcome:
    """The result of a hospital's round: what it sends, as new values, and what it keeps to itself."""

    trained: Trained
    sent: Groups
    kept: Groups = field(default_factory=dict)


class Algorithm:
    """Federated averaging with every step open to change: a subclass overrides what its paper changes.

    The server's half works on a state, arrays by group, which it never changes in place. All random draws come from the
    generator that it is given. The hospital's half depends only on the visit.
    """

    Settings: ClassVar[type[Section]] = NoSettings
    federated: ClassVar[bool] = True  # hospitals train, each on its own images, and send updates
    whole: ClassVar[bool] = False  # updates are new values, not differences: nothing is sent, and no bit is lost
    corrections: ClassVar[tuple[str, ...]] = ()  # sets of arrays, like the trainable ones, that `gradient` reads
    wants_gradients: ClassVar[bool] = False  # whether `Trained.gradient` is filled
    keeps_state: ClassVar[bool] = False  # whether hospitals keep private state, and need that of their last training
    weighs: ClassVar[bool] = True  # whether the weights of hospitals (`federation.weights` and others) matter
    # The server treats the mean update as a gradient and takes its own step: hospitals may send a gradient.
    takes_gradients: ClassVar[bool] = False
    fine_tunes: ClassVar[bool] = False  # hospitals train once more after the last round, for themselves

    def __init__(
        self,
        settings: Section,
        averages_optimizer: bool = False,
        hospitals: Sequence[str] = (),
        mean: Callable[[], Aggregate] = WeightedMean,
    ) -> None:
        """
        Args:
            settings: an instance of `Settings`.
            averages_optimizer: whether the hospitals' optimizer states are sent and averaged, too.
            hospitals: all of the run's; unknown at a hospital.
            mean: makes a mean that weights updates as the run's settings say.
        """
        self.settings: Any = settings
        self.mean = mean
        self.averages_optimizer = averages_optimizer
        self.hospitals = tuple(hospitals)

    # The server's half.

    def begin(self, start: Start) -> Groups:
        """The state before the first round."""
        return {MODEL: start.model} | ({OPTIMIZER: start.optimizer} if self.averages_optimizer else {})

    def stages(self, hospitals: Sequence[str], draws: np.random.Generator) -> Sequence[Sequence[str]]:
        """A round's hospitals in the order in which they train; those of one stage train at the same time."""
        return [hospitals]

    def ask(self, state: Groups, hospital: str) -> Groups:
        """The part of `state` that is sent to a hospital for training."""
        return {group: state[group] for group in self.sends}

    @property
    def sends(self) -> tuple[str, ...]:
        """The groups that are sent to hospitals for training."""
        return (MODEL, OPTIMIZER) if self.averages_optimizer else (MODEL,)

    def sent_like(self, start: Start) -> Groups:
        """The names, shapes and types of what is sent, by group."""
        return {
            group: {MODEL: start.model, OPTIMIZER: start.optimizer}.get(group, start.trainable) for group in self.sends
        }

    def update(self, start: Start) -> Groups:
        """The names, shapes and types of the arrays of an update, by group."""
        return {MODEL: start.model} | ({OPTIMIZER: start.optimizer} if self.averages_optimizer else {})

    @property
    def least(self) -> int:
        """The minimum number of usable updates in a round, whatever `federation.min_replies` says."""
        return 1

    def aggregate(self) -> Aggregate:
        """Where a stage's updates are collected."""
        return self.mean()

    def combine(self, state: Groups, combined: Combined) -> Groups:
        """The next state, from `state` and the aggregate of the updates: differences from what was sent."""
        return dict(state) | {
            group: plus(zeros(state[group]) if self.whole else state[group], change)
            for group, change in combined.changes.items()
        }

    def model_of(self, hospital: str) -> str:
        """The mark of the model that a hospital validates and tests; see `models`."""
        return ""

    # The hospital's half.

    def train(self, visit: Visit) -> Outcome:
        """What a hospital does in a round."""
        trained = visit.train(visit.received[MODEL])
        return Outcome(trained, {MODEL: trained.arrays})

    def gradient(self, gradient: Any, weight: Any, corrections: Mapping[str, Any]) -> Any:
        """The direction of a step instead of the `gradient` of one array; called in every step if it is overridden.

        All are tensors of the array's shape; `corrections` holds one for each name in the class's `corrections`.
        TensorFlow traces it once, so it may only use operators.
        """
        return gradient

    def own_model(self, received: Arrays, kept: Groups) -> Arrays:
        """The weights with which a hospital scores its own images after it received the model `received`."""
        return received

    @classmethod
    def takes_sums(cls) -> bool:
        """Whether a round's weighted mean is all that it makes of updates, so that nobody has to see single ones."""
        as_it_was = cls.aggregate is Algorithm.aggregate and cls.stages is Algorithm.stages
        return cls.federated and not cls.whole and as_it_was

    @classmethod
    def steers(cls) -> bool:
        """Whether its steps take another direction than the gradient's."""
        return cls.gradient is not Algorithm.gradient

    @classmethod
    def has_own_arrays(cls) -> bool:
        """Whether a hospital trains and scores with arrays of its own in the place of some that it was sent."""
        return cls.own_model is not Algorithm.own_model

    @classmethod
    def refuse(cls, config: "Config", settings: Section) -> str:
        """Why a run of `config` cannot use this algorithm with these settings; '' if it can."""
        return ""


def marked(group: str, mark: str) -> str:
    """The name of the `group` of arrays that belongs to the model with that mark."""
    return f"{group}:{mark}" if mark else group


def models(state: Groups) -> dict[str, Arrays]:
    """The models in `state`, by mark: '' for the group 'model', and what follows the colon in 'model:…'."""
    return {group.partition(":")[2]: arrays for group, arrays in state.items() if group.partition(":")[0] == MODEL}


def zeros(arrays: Arrays) -> Arrays:
    """Zeros like `arrays`."""
    return {name: np.zeros_like(array) for name, array in arrays.items()}


def trainable(arrays: Arrays) -> Arrays:
    """`arrays` without moving statistics."""
    return {name: array for name, array in arrays.items() if not is_statistic(name)}


def plus(arrays: Arrays, change: Mapping[str, Any]) -> Arrays:
    """`arrays` with `change` added, in their own types; arrays that cannot be negative do not become so by rounding."""
    after: Arrays = {}
    for name, array in arrays.items():
        value = array + np.asarray(change[name], np.float64) if name in change else np.asarray(array)
        if array.dtype.kind == "i":
            value = np.rint(value)
        if cannot_be_negative(name):
            value = np.maximum(value, 0)
        after[name] = np.asarray(value, array.dtype)
    return after


def minus(arrays: Arrays, sent: Arrays) -> Arrays:
    """The differences of `arrays` from what was `sent`; what was not sent differs from zero."""
    return {name: array - sent[name] if name in sent else array for name, array in arrays.items()}
