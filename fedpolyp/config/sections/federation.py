"""`[federation]`: the rounds."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedpolyp.section import Section, like

_SLOW = r"[^=,]+=\d{1,6}(\.\d{1,6})?"


class FederationConfig(Section):
    """Which hospitals train in a round, and how their weights are aggregated."""

    rounds: int = Field(
        40,
        ge=0,
        le=100_000,
        description="rounds of federation; with 0 only the initial weights are scored",
    )
    fraction: float = Field(1.0, gt=0, le=1, description="fraction of the hospitals sampled in each round")
    min_replies: float = Field(
        0.5, gt=0, le=1, description="fraction of the sampled hospitals that must reply for a round to be valid"
    )
    max_update_norm: float = Field(
        10.0,
        gt=1,
        description="an update is rejected if its norm is more than this many times the median of its round (for the "
        "optimizer's moments: the square of this); needs three replies",
    )
    weights: Literal["images", "equal"] = Field(
        "images", description="weight of a hospital in a mean: its number of training images, or equal for all"
    )
    max_weight: float | None = Field(
        None, gt=0, le=1, description="the largest share of a mean that one hospital may have; unset: no limit"
    )
    per_step: bool = Field(False, description="average the hospitals' change per step, not per round (FedNova)")
    drop_rate: float = Field(
        0.0, ge=0, lt=1, description="simulation: probability that a hospital drops out of a round, drawn from the seed"
    )
    slow: Annotated[str | None, like(f"{_SLOW}(,{_SLOW})*", "HOSPITAL=FACTOR, or several with commas")] = Field(
        None,
        description="simulation: slow hospitals, and how many times as long they take, as in hospital-2=3,hospital-4=9",
    )
    deadline: float | None = Field(
        None,
        gt=0,
        description="simulation: leave out hospitals that take more than this many times the round's median time",
    )
    liars: str | None = Field(
        None, description="simulation: hospitals that lie about their updates, as in hospital-1,hospital-2"
    )
    lie: Literal["sign-flip", "scale", "noise", "label-flip"] = Field(
        "sign-flip",
        description="what liars send: the negative of their update, ten times it, noise of its size, or an update "
        "trained on inverted masks",
    )
    patience: int | None = Field(
        None, ge=1, description="stop after this many rounds without a new best validation score; unset: never"
    )
    round_timeout: float = Field(
        3600.0, gt=0, description="seconds to wait for a missing reply; at real sites, since the last sign of life"
    )

    @model_validator(mode="after")
    def _once(self) -> Self:
        slow = [part.partition("=")[0].strip() for part in (self.slow or "").split(",")]
        for option, names in (("slow", slow), ("liars", list(self.lying))):
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"federation.{option} names {twice} twice")
        return self

    def in_a_round(self, hospitals: int) -> int:
        """How many of so many hospitals train in a round."""
        return max(1, round(self.fraction * hospitals))

    @property
    def slowness(self) -> dict[str, float]:
        """How many times as long each slow hospital takes."""
        pairs = (part.partition("=") for part in (self.slow or "").split(",") if part)
        return {name.strip(): float(factor) for name, _, factor in pairs}

    @property
    def lying(self) -> tuple[str, ...]:
        """The hospitals that lie."""
        return tuple(name.strip() for name in (self.liars or "").split(",") if name.strip())

    @property
    def simulated_only(self) -> tuple[str, ...]:
        """The settings in use that have a meaning only in a simulation."""
        given = {"drop_rate": self.drop_rate, "slow": self.slow, "deadline": self.deadline, "liars": self.liars}
        given["lie"] = self.lie != "sign-flip"
        return tuple(f"federation.{name}" for name, value in given.items() if value)
