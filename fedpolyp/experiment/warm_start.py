"""What initial weights have seen before: scores on images that a model has learnt from say nothing about new ones."""

from collections.abc import Iterator
from pathlib import Path

from fedpolyp.config import Config
from fedpolyp.data.partition.partition import Partition
from fedpolyp.data.store import Store
from fedpolyp.model.weights import SHORT_HASH, learnt_before


def seen_before(config: Config, store: Store, partition: Partition) -> Iterator[str]:
    """A sentence for each set of images whose scores are too good, because the initial weights learnt from some."""
    if not (known := learnt_before(config.model)):
        return
    sets = {
        "held-out images": partition.heldout,
        "hospitals' test images": [id for own in partition.hospitals.values() for id in own.test],
    } | {f"unseen images of {source}": ids for source, ids in partition.unseen.items()}
    for called, ids in sets.items():
        records = (store.records[row] for row in store.positions(ids).tolist())
        if count := sum(record.sha256[:SHORT_HASH] in known for record in records):
            name = Path(str(config.model.initial_weights)).name
            yield (
                f"the initial weights {name} were trained or selected on {count} of the {len(ids)} {called}: scores on "
                "them are too good"
            )
