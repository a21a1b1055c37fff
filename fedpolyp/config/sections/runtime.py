"""`[runtime]`: this machine."""

from typing import Annotated, Literal

from pydantic import Field

from fedpolyp.own_code import PLACE
from fedpolyp.section import Section, like

_PLACES = rf"\s*{PLACE}\s*(,\s*{PLACE}\s*)*"


class RuntimeConfig(Section):
    """How the run is carried out on this machine: this changes its speed, never its bits."""

    actors: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="hospitals trained at the same time, one process each; unset: what cores, memory and GPUs allow",
    )
    gpus_per_client: float | None = Field(
        None, ge=0, le=1, description="share of a GPU for each actor, 0 for none; unset: equal shares of all GPUs"
    )
    ray_address: str | None = Field(
        None,
        description="Ray cluster to run on, host:port or auto; its machines need the images at the same path; "
        "unset: this machine",
    )
    track: Literal["mlflow"] | None = Field(
        None, description="mlflow: log settings and scores to MLflow, too (needs the extra mlflow)"
    )
    observers: Annotated[str | None, like(_PLACES, "module:Class, or several with commas")] = Field(
        None,
        description="observers of your own, as in my_module:MyObserver,my_module:Another",
    )
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints kept, besides the best on validation")

    @property
    def own_observers(self) -> tuple[str, ...]:
        """The observers of the user's own, each as module:Class."""
        return tuple(place.strip() for place in (self.observers or "").split(",") if place.strip())
