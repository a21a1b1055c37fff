"""Bare loops: the trainings and scorings of a federation in two processes, without Flower, Ray and averaging."""

import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from fedpolyp.runs import RunFolder

_PATIENCE = 600.0  # seconds that a process waits for the other, which may have died


def loops(run: Path, rounds: int) -> list[float]:
    """Seconds of each round from the second on, of the work that the run in `run` does in a round.

    Hospitals are assigned to the two processes as two equally fast actors take them: in turns. A process that has
    finished its trainings waits for the other, as a round does. Then one scores the held-out set, and the other every
    hospital's validation images.

    Raises:
        RuntimeError: a process failed.
    """
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2, timeout=_PATIENCE), context.Queue()
    workers = [context.Process(target=_work, args=(index, run, rounds, barrier, results)) for index in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise RuntimeError("a process of the bare loops failed; what it said is above")
    seconds: list[float] = results.get(timeout=_PATIENCE)
    return seconds


def _work(index: int, path: Path, rounds: int, barrier: Barrier, results: Any) -> None:
    from fedpolyp.data.source import open_source
    from fedpolyp.training import learning_rate, shared_trainer

    run = RunFolder(path)
    config, partition = run.config(), run.partition()
    store = open_source(config.data, config.data_seed)
    trainer = shared_trainer(config)
    arrays, optimizer = trainer.initial, trainer.start.optimizer
    names = sorted(partition.hospitals)

    def images(ids: tuple[str, ...]) -> tuple[Any, Any]:
        positions = store.positions(ids)
        return store.images[positions], store.masks[positions]

    seconds = []
    for number in range(1, rounds + 1):
        barrier.wait()
        began = time.monotonic()
        for name in names[index::2]:
            trainer.train(
                arrays,
                *images(partition.hospitals[name].train),
                hospital=name,
                round=number,
                learning_rate=learning_rate(config, number),
                optimizer=optimizer,
            )
        barrier.wait()
        for ids in [partition.heldout] if index == 0 else [partition.hospitals[name].val for name in names]:
            trainer.evaluate(arrays, *images(ids))
        barrier.wait()
        seconds.append(time.monotonic() - began)
    if index == 0:
        results.put(seconds[1:])
