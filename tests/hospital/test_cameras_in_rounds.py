"""Cameras and annotators in a federation: the same bits through messages and without, stopped or not."""

import threading
from pathlib import Path

import pytest

from fedpolyp.errors import Interrupted
from fedpolyp.runs import RunFolder
from tests.tiny import StopAfter, carry_here, federate, final, same_state, tiny_config, tiny_run


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["acquisition", "labels"])
def test_a_federation_has_the_same_bits_through_messages_without_and_resumed_and_others_than_iid(
    tmp_path: Path, scheme: str
) -> None:
    config = tiny_config(federation__rounds=2, training__local_epochs=1, hospitals__scheme=scheme)
    here, messages, stopped = (tiny_run(tmp_path / name, config) for name in ("here", "messages", "stopped"))
    carry_here(here, config)
    federate(messages, config)
    stop = threading.Event()
    with pytest.raises(Interrupted):
        carry_here(stopped, config, StopAfter(1, stop), stop)
    carry_here(RunFolder(stopped.path), config)
    ends = [final(run, config) for run in (here, messages, stopped)]
    assert same_state(ends[0], ends[1]) and same_state(ends[0], ends[2])
    plain = tiny_config(federation__rounds=2, training__local_epochs=1)
    carry_here(iid := tiny_run(tmp_path / "iid", plain), plain)
    assert not same_state(ends[0], final(iid, plain))
    assert iid.partition().heldout == here.partition().heldout
