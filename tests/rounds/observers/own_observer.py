"""An observer as docs/extending.md shows it."""

from dataclasses import dataclass

from fedpolyp.rounds.observers import Observer, Round


@dataclass
class Norms(Observer):
    """Writes the length of each model's weights into norms.csv."""

    def see(self, round: Round) -> None:
        """See `Observer`."""
        file = self.experiment.run.path / "norms.csv"
        lines = file.read_text().splitlines() if file.exists() else []
        kept = [line for line in lines if int(line.split(",")[0]) < round.number]  # a resumed run sees a round again
        for mark, arrays in round.checkpoint.models.items():
            length = sum(float((array.astype("f8") ** 2).sum()) for array in arrays.values()) ** 0.5
            kept.append(f"{round.number},{mark},{length:.6f}")
        file.write_text("\n".join(kept) + "\n")


@dataclass
class AfterOne(Observer):
    """Ends the run after its first round."""

    def see(self, round: Round) -> None:
        """See `Observer`."""
        if round.number == 1:
            round.record.stopped = "one round is enough"
