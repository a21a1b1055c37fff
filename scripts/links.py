"""Links like those of hospitals, on one machine: network namespaces, with delayed and lost packets between them.

Linux has `tc netem` for that, but not every kernel. So the ends of a link are two TUN devices, and this process carries
the packets from one to the other: it delays, limits and drops them; TCP and TLS on both sides are the system's own.
Needs root (or CAP_NET_ADMIN), `ip` (iproute2) and /dev/net/tun.
"""

import contextlib
import fcntl
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Self

_TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
_MTU = 1500
_IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "ip"
_QUEUE_SECONDS = 0.5  # of packets that wait for their turn on the line; what comes on top is dropped, as routers do


@dataclass(frozen=True)
class Line:
    """What a link does to packets in one direction."""

    megabits: float  # a second
    delay: float  # seconds
    loss: float  # of the packets, in [0, 1]


# A hospital's: 10 Mbit/s up and 50 down, 80 ms there and back, one packet in a hundred lost.
UP, DOWN = Line(10, 0.04, 0.01), Line(50, 0.04, 0.01)


class Namespace:
    """A network of its own, with its own loopback."""

    def __init__(self, name: str) -> None:
        self.name = name
        _ip("netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> None:
        """Run `ip` in it."""
        _ip("-n", self.name, *arguments)

    @property
    def enter(self) -> tuple[str, ...]:
        """What to put before a command that is to run in it."""
        return (_IP, "netns", "exec", self.name)

    def close(self) -> None:
        """Remove it, with its devices."""
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("netns", "del", self.name)


class _Direction:
    """Carries packets from one device to another."""

    def __init__(self, source: int, sink: int, line: Line, seed: int) -> None:
        self.source, self.sink, self.line = source, sink, line
        self.whole = True
        self.bytes = self.dropped = 0
        self._rng = random.Random(seed)
        self._queue: deque[tuple[float, bytes]] = deque()
        self._more = threading.Condition()
        self._ended = threading.Event()
        for work in (self._take, self._pass_on):
            threading.Thread(target=work, daemon=True).start()

    def _take(self) -> None:
        _hurry()
        free = time.monotonic()  # when the line has sent all that waits for it
        while not self._ended.is_set():
            if not select.select([self.source], [], [], 0.2)[0]:
                continue
            with contextlib.suppress(OSError):
                packet, now = os.read(self.source, 65536), time.monotonic()
                free = max(free, now)
                lost = self._rng.random() < self.line.loss
                if not self.whole or lost or free - now > _QUEUE_SECONDS:
                    self.dropped += 1
                    continue
                free += 8 * len(packet) / (1e6 * self.line.megabits)
                with self._more:
                    self._queue.append((free + self.line.delay, packet))
                    self._more.notify()

    def _pass_on(self) -> None:
        _hurry()
        while not self._ended.is_set():
            with self._more:
                if not self._queue:
                    self._more.wait(0.2)
                    continue
                due, packet = self._queue.popleft()
            time.sleep(max(0.0, due - time.monotonic()))
            if self.whole:
                self.bytes += len(packet)
                with contextlib.suppress(OSError):
                    os.write(self.sink, packet)

    def end(self) -> None:
        """Carry nothing more."""
        self._ended.set()


class Link:
    """A site's link to the coordinator: the two ends have the addresses 10.77.`number`.2 and 10.77.`number`.1."""

    def __init__(self, site: Namespace, coordinator: Namespace, number: int, up: Line = UP, down: Line = DOWN) -> None:
        self._ends = [
            _device(space, f"link{number}", f"10.77.{number}.{own}", f"10.77.{number}.{other}")
            for space, own, other in ((site, 2, 1), (coordinator, 1, 2))
        ]
        # CUBIC is what most machines have; with loss it is slower than BBR, which some have.
        site.ip("route", "add", "default", "via", f"10.77.{number}.1", "congctl", "cubic")
        coordinator.ip("route", "replace", f"10.77.{number}.2", "dev", f"link{number}", "congctl", "cubic")
        self.up = _Direction(self._ends[0], self._ends[1], up, 2 * number)
        self.down = _Direction(self._ends[1], self._ends[0], down, 2 * number + 1)

    def cut(self) -> None:
        """From now on no packet arrives, and nobody is told."""
        self.up.whole = self.down.whole = False

    def mend(self) -> None:
        """Let packets through again."""
        self.up.whole = self.down.whole = True

    def close(self) -> None:
        """End it; the devices go with their ends."""
        for direction in (self.up, self.down):
            direction.end()
        time.sleep(0.5)  # nobody reads from what is closed now
        for end in self._ends:
            os.close(end)


class Hospitals(contextlib.ExitStack):
    """A namespace for a coordinator, one for each site, and a link from each site to the coordinator."""

    ADDRESS = "10.77.0.1"  # the coordinator's, as sites know it

    def __init__(self, sites: tuple[str, ...], up: Line = UP, down: Line = DOWN) -> None:
        super().__init__()
        self.spaces: dict[str, Namespace] = {}
        self.links: dict[str, Link] = {}
        self._sites, self._up, self._down = sites, up, down

    def __enter__(self) -> Self:
        """Make all of it; what was made goes again when something fails."""
        with contextlib.ExitStack() as made:
            for name in ("coordinator", *self._sites):
                space = self.spaces[name] = Namespace(f"fedpolyp-{os.getpid()}-{name}")
                made.callback(space.close)
            coordinator = self.spaces["coordinator"]
            coordinator.ip("address", "add", f"{self.ADDRESS}/32", "dev", "lo")
            for number, site in enumerate(self._sites, 1):
                link = self.links[site] = Link(self.spaces[site], coordinator, number, self._up, self._down)
                made.callback(link.close)
            self.push(made.pop_all())
        return self


def _hurry() -> None:
    """Let this thread not wait for trainings: a link does not slow down when its ends are at work."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -15)


def _device(space: Namespace, name: str, own: str, other: str) -> int:
    """A TUN device in `space`; what is written to the descriptor returned arrives there."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    outside = f"fp{os.getpid()}x{descriptor}"[:15]
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", outside.encode(), _TUN_WITHOUT_HEADER))
    _ip("link", "set", outside, "netns", space.name, "name", name)
    space.ip("address", "add", own, "peer", other, "dev", name)
    space.ip("link", "set", name, "mtu", str(_MTU), "up")
    return descriptor


def _ip(*arguments: str) -> None:
    subprocess.run([_IP, *arguments], check=True, capture_output=True)
