"""What hospitals reply, and the ways to ask them."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fedpolyp.exchange.requests import Request
from fedpolyp.model.arrays import Arrays

# What travels beside a request: arrays by group.
Sent = Mapping[str, Arrays]


class Content(Protocol):
    """What a reply holds; at real sites, whatever somebody has sent."""

    @property
    def said(self) -> Mapping[str, Any]:
        """Numbers by name."""

    @property
    def groups(self) -> Collection[str]:
        """The names of its groups of arrays."""

    def arrays(self, group: str) -> Arrays:
        """A group of arrays; empty when there is none of that name.

        Raises:
            Malformed: what was sent cannot be read.
        """


@dataclass(frozen=True)
class Answer:
    """The content that a hospital makes: numbers by name, and arrays by group."""

    said: Mapping[str, int | float]
    sent: Mapping[str, Arrays] = field(default_factory=dict)

    @property
    def groups(self) -> Collection[str]:
        """See `Content`."""
        return self.sent.keys()

    def arrays(self, group: str) -> Arrays:
        """See `Content`."""
        return self.sent.get(group, {})


@dataclass(frozen=True)
class Reply:
    """A hospital's answer, or the reason why there is none."""

    hospital: str
    content: Content | None
    reason: str = ""


class Exchange(Protocol):
    """A way to the hospitals."""

    def connect(self, hospitals: Sequence[str], at_least: int) -> None:
        """Wait until `at_least` of `hospitals` can be asked.

        Raises:
            FedpolypError: they cannot.
        """

    def send(self, requests: Sequence[tuple[Request, Sent]], arrived: Callable[[Reply], None]) -> Iterator[Reply]:
        """Send every request; the iterator returned gives the replies in the order of `requests`.

        `arrived` hears of each one at once. Requests are under way when this returns.
        """
