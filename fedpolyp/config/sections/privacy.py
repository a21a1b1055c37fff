"""`[privacy]`: what hospitals protect about their images."""

from typing import TYPE_CHECKING, Literal, Self, get_args

from pydantic import Field, model_validator

from fedpolyp.errors import UsageError
from fedpolyp.section import Section

if TYPE_CHECKING:
    from fedpolyp.privacy.accounting import Noise

Unit = Literal["image", "group", "patient"]  # of a guarantee; each protects at least as much as those before it
UNITS: tuple[Unit, ...] = get_args(Unit)
MOST_DRAWN = 100.0  # epsilon with drawn units: a larger one guarantees nothing


class PrivacyConfig(Section):
    """Differential privacy and secure sums: what hospitals protect about their images."""

    mode: Literal["off", "local", "joint"] = Field(
        "off",
        description="local: in each round a hospital sends one gradient, clipped for each unit, with all of its "
        "noise; joint: with a share of the noise, in a secure sum; off: ordinary training, without a guarantee",
    )
    epsilon: float = Field(
        8.0,
        gt=0,
        le=1e9,
        description="the guarantee for all rounds together; a smaller epsilon protects more (1e9: only clipping, "
        "without a guarantee)",
    )
    delta: float = Field(
        1e-3, gt=0, lt=1, description="delta of the guarantee; below 1 / (units of the smallest hospital)"
    )
    score_epsilon: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="epsilon of a noisy score, in addition to the other: the mean Dice of its own test images, which "
        "each hospital sends after the last round; 0: no score",
    )
    # Squares of numbers below 1e-19 are zero in float32: a length that is not far above that cannot be measured.
    clip: float = Field(1.0, ge=1e-6, le=1e6, description="norm to which the gradient of a unit is clipped")
    unit: Unit = Field(
        "group",
        description="what the guarantee protects: a group of near-duplicates (or of a patient), an image, or a "
        "patient; patients must be known for all images (group_by, or a CSV with a column patient)",
    )
    batches: Literal["all", "poisson"] = Field(
        "all", description="units in a step: all, or each drawn independently, `batch` of them on average"
    )
    batch: int | None = Field(
        None, ge=1, le=1_000_000, description="poisson: expected number of units that a hospital draws in a step"
    )
    secure_sums: bool = Field(
        False, description="hospitals mask their updates, so that the coordinator can read only their sum"
    )
    secure_least: int = Field(
        3, ge=2, le=1000, description="secure sums: the smallest number of hospitals whose sum may be read"
    )
    colluders: int = Field(
        1,
        ge=0,
        le=998,
        description="secure sums: how many hospitals may tell the coordinator all they know without harm to others",
    )

    @model_validator(mode="after")
    def _hides_something(self) -> Self:
        if self.mode == "joint" and not self.secure_sums:
            raise ValueError(
                "privacy joint needs secure sums (--secure-sums): the noise of one hospital alone protects too little"
            )
        if self.batches == "poisson" and self.batch is None:
            raise ValueError("--batches poisson needs --batch B, the expected number of units in a step; got none")
        # Hospitals of different size draw with different rates. The sum weighs what a unit adds by 1/rate, and each
        # rate needs another sigma. So the shares of noise that suffice for one hospital do not suffice for another.
        if self.mode == "joint" and self.drawn is not None:
            raise ValueError(
                "privacy joint takes all units in each step (--batches all): hospitals that draw units need noise that "
                "depends on their own size, so they cannot share it; got poisson"
            )
        if self.drawn is not None and self.epsilon > MOST_DRAWN:
            raise ValueError(
                f"--batches poisson takes an epsilon of {MOST_DRAWN:g} at most; got {self.epsilon:g} (clipping alone "
                "is possible with --batches all)"
            )
        if self.secure_sums and self.secure_least < self.colluders + 2:
            raise ValueError(
                f"a sum over {self.secure_least} hospitals of which {self.colluders} tell all they know hides nothing: "
                f"privacy.secure_least must be {self.colluders + 2} at least, or privacy.colluders smaller"
            )
        return self

    @property
    def on(self) -> bool:
        """Whether the run has differential privacy."""
        return self.mode != "off"

    @property
    def scores(self) -> bool:
        """Whether each hospital gives a noisy score after the last round."""
        return self.on and self.score_epsilon > 0

    @property
    def drawn(self) -> int | None:
        """The expected number of units that a hospital draws in a step; None: it takes all."""
        return self.batch if self.batches == "poisson" else None

    @property
    def sharers(self) -> int:
        """How many hospitals make the noise of a sum together: the fewest in a sum that keep their share secret."""
        return self.secure_least - self.colluders if self.mode == "joint" else 1

    def noise(self, rounds: int, units: int) -> "Noise":
        """The noise of a step's sum at a hospital of `units` units, which this number of rounds needs.

        Raises:
            UsageError: the batch has more units than the hospital, or the package dp-accounting is not installed.
        """
        from fedpolyp.privacy.accounting import Noise, poisson_sigma

        if self.drawn is None:
            return Noise(self.sigma(rounds))
        if self.drawn > units:
            raise UsageError(f"a batch cannot have more than the {units} units of this hospital; got {self.drawn}")
        rate = self.drawn / units
        return Noise(poisson_sigma(self.epsilon, self.delta, rounds, rate), rate)

    def score_noise(self) -> "Noise":
        """The noise of the sum of the units' scores, in units of the most that one adds. Nobody shares it."""
        from fedpolyp.privacy.accounting import Noise, sigma_for

        return Noise(sigma_for(self.score_epsilon, self.delta, 1))

    def sigma(self, rounds: int) -> float:
        """The noise that this number of rounds needs with all units in each step, in units of the clip."""
        from fedpolyp.privacy.accounting import sigma_for  # SciPy takes a moment

        return sigma_for(self.epsilon, self.delta, rounds)
