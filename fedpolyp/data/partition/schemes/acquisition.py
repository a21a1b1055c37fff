"""`acquisition`: images assigned as by `iid`, but each hospital has its own camera."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from fedpolyp.data.camera import Camera, draw_cameras
from fedpolyp.data.partition.groups import Groups
from fedpolyp.data.partition.scheme import Rows, Scheme, assign_in_order
from fedpolyp.section import Section


class Acquisition(Scheme):
    """Hospitals that differ only in white balance, gamma, blur, noise, vignette and compression; the skew says how
    much.

    A camera is applied to all of its hospital's sets. The held-out set stays as it is unless a setting says otherwise.
    """

    uses_skew = True

    class Settings(Section):
        """Of `[hospitals]`."""

        heldout_camera: bool = Field(
            False, description="acquisition: take the held-out images with one more camera, which no hospital has"
        )

    def assign(self, groups: Groups, hospitals: int, rng: np.random.Generator) -> Rows:
        """See `Scheme`."""
        return assign_in_order(rng.permutation(len(groups)), groups, hospitals)

    def cameras(self, hospitals: int, rng: np.random.Generator) -> Sequence[Camera | None]:
        """See `Scheme`."""
        return draw_cameras(hospitals, self.skew, rng)

    def heldout_camera(self, rng: np.random.Generator) -> Camera | None:
        """See `Scheme`."""
        return draw_cameras(1, self.skew, rng)[0] if self.settings.heldout_camera else None
