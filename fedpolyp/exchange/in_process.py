"""An exchange without messages: every hospital trains in this process, one after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from fedpolyp.exchange.packing import carried
from fedpolyp.exchange.replies import Answer, Reply, Sent
from fedpolyp.exchange.requests import Evaluate, Request, Train, Unmask
from fedpolyp.hospital import work
from fedpolyp.hospital.hospital import Hospital
from fedpolyp.hospital.masking import unmask
from fedpolyp.model.arrays import Arrays, unwritable


@dataclass(frozen=True)
class InProcess:
    """Answers a request when its reply is asked for; what goes wrong at a hospital is raised."""

    hospital: Callable[[str], Hospital]  # by name
    bfloat16: bool = False  # whether arrays are rounded as they would be on their way

    def connect(self, hospitals: Sequence[str], at_least: int) -> None:
        """See `Exchange`: everybody is there."""

    def send(self, requests: Sequence[tuple[Request, Sent]], arrived: Callable[[Reply], None]) -> Iterator[Reply]:
        """See `Exchange`."""
        for request, sent in requests:
            reply = Reply(request.hospital, self._answer(request, sent))
            arrived(reply)
            yield reply

    def _answer(self, request: Request, sent: Sent) -> Answer:
        def received(group: str, like: Arrays) -> Arrays:
            # As after a message: what a hospital wrote there would change the server's state.
            return unwritable(carried(sent[group], self.bfloat16))

        hospital = self.hospital(request.hospital)
        if isinstance(request, Train):
            answer = work.train(request, received, hospital)
        elif isinstance(request, Unmask):
            answer = unmask(request, hospital)
        else:
            assert isinstance(request, Evaluate)
            answer = work.evaluate(request, received, hospital)
        return replace(answer, sent={group: carried(a, self.bfloat16) for group, a in answer.sent.items()})
