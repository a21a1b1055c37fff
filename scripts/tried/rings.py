"""FedSR: J. Huang, L. Ye, L. Kang, A Semi-Decentralized Federated Learning Algorithm for Non-IIDness in IoT, 2024."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from fedpolyp.aggregation.aggregate import Aggregate, Combined, Update
from fedpolyp.aggregation.collecting import Collecting
from fedpolyp.algorithms.base import MODEL, OPTIMIZER, Algorithm, Groups, plus
from fedpolyp.section import Section

_RINGS = "rings"


class Rings(Algorithm):
    """The model travels through each ring of hospitals, from one to the next; the rings' last models are averaged.

    With one ring this is cyclic training, with as many rings as hospitals FedAvg. Hospitals are drawn into rings anew
    in each round.
    """

    class Settings(Section):
        """Of `[algorithm]`."""

        rings: int = Field(2, ge=1, description="rings: how many")

    def stages(self, hospitals: Sequence[str], draws: np.random.Generator) -> Sequence[Sequence[str]]:
        """See `Algorithm`: the first hospitals of all rings, then the second ones, and so on."""
        order = [hospitals[place] for place in draws.permutation(len(hospitals))]
        rings = min(self.settings.rings, len(order))
        self._ring = {hospital: str(place % rings) for place, hospital in enumerate(order)}
        return [order[first : first + rings] for first in range(0, len(order), rings)]

    def ask(self, state: Groups, hospital: str) -> Groups:
        """See `Algorithm`: what the hospital before it in its ring has made."""
        ring = self._ring[hospital]
        return {group: state.get(f"{group} {ring}", state[group]) for group in self.sends}

    def aggregate(self) -> Aggregate:
        """See `Algorithm`."""
        return Collecting(_by_hospital)

    def combine(self, state: Groups, combined: Combined) -> Groups:
        """See `Algorithm`: the rings are part of the state until all of the round's hospitals have trained."""
        after = dict(state)
        weights = dict(state.get(_RINGS, {}))
        for hospital in combined.hospitals:
            ring = self._ring[hospital]
            for group in self.sends:
                after[f"{group} {ring}"] = plus(
                    self.ask(state, hospital)[group], combined.changes[f"{group} {hospital}"]
                )
            weights[hospital] = combined.changes[_RINGS][hospital]
        after[_RINGS] = weights
        if weights.keys() < self._ring.keys():
            return after
        return {group: self._mean(group, after, weights) for group in self.sends}

    def _mean(self, group: str, state: Groups, weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The mean of the rings, weighted by the images of their hospitals."""
        rings = sorted(set(self._ring.values()))
        of = [sum(float(weights[one]) for one, ring in self._ring.items() if ring == name) for name in rings]
        return {
            # An array of no dimensions would be left as a mere number.
            name: np.asarray(
                np.average([state[f"{group} {ring}"][name].astype(np.float64) for ring in rings], 0, of), array.dtype
            )
            for name, array in state[group].items()
        }


def _by_hospital(updates: Sequence[Update]) -> Mapping[str, Mapping[str, Any]]:
    changes: dict[str, Mapping[str, Any]] = {
        f"{group} {update.hospital}": update.changes[group]
        for update in updates
        for group in (MODEL, OPTIMIZER)
        if group in update.changes
    }
    return {**changes, _RINGS: {update.hospital: np.array(update.weight) for update in updates}}
