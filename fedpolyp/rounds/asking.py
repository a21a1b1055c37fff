"""Requests to hospitals, made and sent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fedpolyp import checkpoints
from fedpolyp.algorithms.base import MODEL, Groups, models
from fedpolyp.checkpoints import Checkpoint
from fedpolyp.config import Config, DataConfig
from fedpolyp.exchange.replies import Exchange, Reply, Sent
from fedpolyp.exchange.requests import Evaluate, Request, Train, Unmask, listed
from fedpolyp.rounds.counted import Counted
from fedpolyp.rounds.experiment import Experiment
from fedpolyp.training import learning_rate


@dataclass(frozen=True)
class Asking:
    """Makes each request of a run, and sends it."""

    experiment: Experiment
    exchange: Exchange
    counted: Counted

    def train(self, number: int, hospitals: Sequence[str], before: Checkpoint, state: Groups) -> Iterator[Reply]:
        """Let `hospitals` train in round `number`, with the groups of `state` that the algorithm sends."""
        algorithm, folder = self.experiment.algorithm, self.experiment.run.checkpoints
        rate = learning_rate(self.experiment.config, number)
        oldest = checkpoints.oldest(folder)
        # A run may go back to its oldest checkpoint, and then needs the best round of that time. A round that was best
        # later is newer than that checkpoint, and is kept anyway.
        best = max(one.round for one in checkpoints.best_at(folder, oldest, before).values())
        requests: list[tuple[Request, Sent]] = []
        for name in hospitals:
            request = Train(
                name,
                number,
                **self._place,
                counted=self.counted.last(name, number - 1),
                learning_rate=rate,
                keep_from=self.counted.last(name, oldest),
                keep_best=self.counted.last(name, best),
                members=listed(hospitals) if self.experiment.config.privacy.secure_sums else "",
                roster=self.experiment.roster,
            )
            requests.append((request, algorithm.ask(state, name)))
        return self._send("train", requests)

    def unmask(self, number: int, members: Sequence[str], survivors: Sequence[str]) -> Iterator[Reply]:
        """Ask the `survivors` among the `members` of a secure sum of round `number` to open it."""
        last = self.counted.last
        requests: list[tuple[Request, Sent]] = [
            (
                Unmask(
                    name,
                    number,
                    **self._place,
                    counted=last(name, number - 1),
                    members=listed(members),
                    survivors=listed(survivors),
                    roster=self.experiment.roster,
                ),
                {},
            )
            for name in survivors
        ]
        return self._send("unmask", requests)

    def score(
        self,
        number: int,
        state: Groups,
        score_set: str,
        hospitals: Sequence[str],
        distances: bool = False,
        own: bool = False,
    ) -> Iterator[Reply]:
        """Let `hospitals` score the models that `state` had after round `number` on one of their own sets.

        With `own` each trains its model for itself first.
        """
        known, algorithm = models(state), self.experiment.algorithm
        requests: list[tuple[Request, Sent]] = []
        for name in hospitals:
            request = Evaluate(
                name,
                number,
                **self._place,
                counted=self.counted.last(name, number),
                score_set=score_set,
                distances=distances,
                own=own,
            )
            requests.append((request, {MODEL: known[algorithm.model_of(name)]}))
        return self._send("own" if own else score_set, requests)

    def _send(self, task: str, requests: Sequence[tuple[Request, Sent]]) -> Iterator[Reply]:
        watcher = self.experiment.watcher
        if not requests:
            return iter(())
        number = requests[0][0].round
        watcher.asked(number, task, [request.hospital for request, _ in requests])
        return self.exchange.send(requests, lambda reply: watcher.replied(number, task, reply.hospital, reply.reason))

    @cached_property
    def _place(self) -> dict[str, Any]:
        """The part that is the same in all requests of the run."""
        of = self.experiment
        if of.name_at_sites or of.store is None:
            # The sites are not told the names of the coordinator's folders.
            for_sites = Config(
                seed=of.config.seed,
                data=DataConfig(image_size=of.config.data.image_size),
                model=of.config.model.architecture,
                training=of.config.training,
                algorithm=of.config.algorithm,
                privacy=of.config.privacy,
                federation=of.config.federation,
            )
            return {"config": for_sites.model_dump_json(), "run": of.name_at_sites}
        folder, store = of.run.path.resolve(), of.store.path.resolve()
        return {"config": of.config.model_dump_json(), "run_folder": str(folder), "store": str(store)}
