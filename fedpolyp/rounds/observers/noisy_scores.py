"""With privacy, lets each hospital give one noisy score of the last model, on its own test images."""

from collections.abc import Iterator
from dataclasses import dataclass

from fedpolyp.exchange.packing import carried_bytes
from fedpolyp.exchange.replies import Reply
from fedpolyp.privacy.words import NO_SCORE
from fedpolyp.rounds.asking import Asking
from fedpolyp.rounds.observers.observer import Observer, Round
from fedpolyp.rounds.replies import BadReply, read_noisy_score


@dataclass
class NoisyScores(Observer):
    """Asks each hospital after the last round for the noisy mean Dice of its test images, if the run has this.

    The scores go into the round's record. A hospital that gives none is noted, and nothing depends on it. An observer
    before this one may have ended the run, so it asks only in `see`.
    """

    asking: Asking

    def see(self, round: Round) -> None:
        """See `Observer`."""
        of = self.experiment
        if not round.last or not of.config.privacy.scores:
            return
        for reply in self._replies(round):
            try:
                score = read_noisy_score(reply, of.config)
            except BadReply as error:
                of.refuse(round.record, reply.hospital, f"{NO_SCORE}{error}")
                continue
            own = {"noisy_test_dice": score.dice, "noise_deviation": score.deviation, "epsilon": score.epsilon}
            round.record.hospital(reply.hospital).update(own)

    def _replies(self, round: Round) -> Iterator[Reply]:
        asked = []
        for name in self.experiment.hospitals:
            if self._has_test_images(name):
                asked.append(name)
            else:
                yield Reply(name, None, "none of its test images has a polyp")
        model = next(iter(round.checkpoint.models.values()))
        round.record.bytes_down += carried_bytes(model, self.experiment.rounds_values) * len(asked)
        yield from self.asking.score(round.number, round.checkpoint.state, "test", asked)

    def _has_test_images(self, hospital: str) -> bool:
        """Whether it is worthwhile to ask: at real sites nobody knows."""
        of = self.experiment
        if of.name_at_sites or of.store is None:
            return True
        positions = of.store.positions(of.partition.hospitals[hospital].test)
        return any(of.store.records[position].lesion_fraction > 0 for position in positions)
