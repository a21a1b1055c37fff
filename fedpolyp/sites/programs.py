"""The programs that a site was sent: Flower unpacks each once, and uses one that is only partly unpacked."""

import re
import shutil
from collections.abc import Callable
from typing import Any

from fedpolyp.errors import FedpolypError
from fedpolyp.sites import audit
from fedpolyp.sites.settings import SiteSettings

# The SuperNode's output when it passes a message to a program, and when it has the reply.
_PASSED_ON = re.compile(r"(Receiving|Sending): (\S+) message \(ID: ")
_REASON = "the program did not start, or could not write here: no space, or it was killed; 'site join' printed why"


class SentPrograms:
    """Where Flower keeps them; a program that does not reach its first line in the audit log is deleted.

    A full disk or a kill may have left it half unpacked. Flower unpacks it again for the next message.
    """

    def __init__(self, settings: SiteSettings, say: Callable[[str], Any]) -> None:
        self._settings, self._say = settings, say
        self._before = -1

    def throw_away(self) -> None:
        """Delete all of them; nothing may be running at the site."""
        shutil.rmtree(self._settings.flower / "apps", ignore_errors=True)

    def heed(self, line: str) -> None:
        """Find out from the SuperNode's output whether a program was reached; if not, write that into the audit log."""
        said = _PASSED_ON.search(line)
        if said is None:
            return
        if said[1] == "Receiving":
            self._before = self._size()
        elif self._size() == self._before:
            self.throw_away()
            try:
                audit.append(self._settings.audit, "failed", {"message": said[2], "reason": _REASON})
            except (OSError, FedpolypError) as error:
                self._say(f"{_REASON}; and the audit log cannot be written: {error}")

    def _size(self) -> int:
        log = self._settings.audit
        return log.stat().st_size if log.is_file() else 0
