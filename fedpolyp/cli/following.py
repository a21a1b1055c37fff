"""Follows a run at real sites with a command that may end and be started again, while the run goes on by itself."""

import time
from dataclasses import dataclass, field
from typing import Any

from fedpolyp.cli import flower
from fedpolyp.cli.supervise import stop_signal
from fedpolyp.errors import FedpolypError, FinalError
from fedpolyp.runs import RunFolder
from fedpolyp.sites.progress import new_lines, progress_file, retell, told_by
from fedpolyp.sites.settings import CoordinatorSettings
from fedpolyp.watcher import Watcher

_STATUS_SECONDS, _POLL_SECONDS = 10.0, 0.5
_PATIENCE = 60.0  # seconds with a coordinator that does not answer, and no news of the run


def trained(run: RunFolder) -> bool:
    """Whether the sites are done: every round is complete and every image is scored."""
    rounds = run.rounds()
    return run.images_file.exists() and bool(rounds) and rounds[-1]["round"] == run.config().federation.rounds


def under_way(settings: CoordinatorSettings, run: RunFolder) -> str | None:
    """The Flower run that is working on `run`, if there is one.

    Raises:
        FedpolypError: the coordinator does not answer.
    """
    # A started run holds its lock. Flower may consider a killed one running for another minute.
    held = run.at_work
    seen = [
        known
        for known, told in told_by(run).items()
        if told.isdisjoint(("failed", "finished")) and (held or told == {"submitted"})
    ]
    if not seen:
        return None
    listed = flower.control(settings, "list", flower.CONNECTION, "--format", "json").answer()["runs"]
    at_work = {listing["run-id"] for listing in listed if not _ended(listing)}
    return next((known for known in reversed(seen) if known in at_work), None)


def follow(settings: CoordinatorSettings, run: RunFolder, flower_run: str, quiet: bool) -> None:
    """Show one of Flower's runs on `run`, from its start to its end.

    Raises:
        FedpolypError: it failed, was stopped, or the coordinator no longer answers.
    """
    from fedpolyp.cli.console import console_of_its_own
    from fedpolyp.cli.screen import screen

    asked = time.monotonic()
    with screen(console_of_its_own(), quiet) as watcher, stop_signal() as stop:
        follower = _Follower(settings, run, flower_run, watcher)
        while not stop.is_set():
            if follower.finished():
                return
            if time.monotonic() - asked > _STATUS_SECONDS:
                state = follower.state_if_ended()
                if state and follower.finished():
                    return
                if state:
                    raise FedpolypError(
                        f"the run's process has ended without a message; its state in Flower is {state}"
                    )
                asked = time.monotonic()
            stop.wait(_POLL_SECONDS)
    flower.control(settings, "stop", flower_run, flower.CONNECTION, "--format", "json").answer()
    raise FedpolypError("interrupted; the run was stopped")


@dataclass
class _Follower:
    """What has been received about the run so far."""

    settings: CoordinatorSettings
    run: RunFolder
    flower_run: str
    watcher: Watcher
    offset: int = 0
    begun: bool = False  # it has taken the run's lock, which ends with its process
    heard: float = field(default_factory=time.monotonic)

    def finished(self) -> bool:
        """Pass on new events; returns whether the run has reported its end.

        Raises:
            FedpolypError: the run has reported a failure.
        """
        events, self.offset = new_lines(progress_file(self.run), self.offset)
        for event in events:
            if event["flower_run"] != self.flower_run:
                continue
            self.heard = time.monotonic()
            self.begun = self.begun or event["event"] != "submitted"
            if event["event"] == "failed":
                raise (FedpolypError if event.get("again", True) else FinalError)(event["reason"])
            if event["event"] == "finished":
                return True
            retell(event, self.run, self.watcher)
        return False

    def state_if_ended(self) -> str:
        """Flower's state of the run if it has ended; empty while it continues, or may do so.

        Raises:
            FedpolypError: the coordinator does not answer, and the run has ended or there was no news of it for a
                minute.
        """
        asked = ("list", flower.CONNECTION, "--run-id", self.flower_run, "--format", "json")
        dead = self.begun and not self.run.at_work
        try:
            listed = flower.control(self.settings, *asked).answer()["runs"][0]
        except FedpolypError as error:
            if dead or time.monotonic() - self.heard > _PATIENCE:
                raise
            self.watcher.note(f"{error}; asking again")
            return ""
        self.heard = time.monotonic()
        return f"{listed['status']} ({listed['status-details']})" if dead or _ended(listed) else ""


def _ended(listing: dict[str, Any]) -> bool:
    return str(listing["status"]).startswith("finished")
