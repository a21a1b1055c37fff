"""A headless Chromium, driven through the DevTools protocol."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PATIENCE = 1200  # tenths of a second: only a test that fails waits so long


class Browser:
    """One tab; every event it sends is kept."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = count(1)
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        self._home: tuple[str, ...] = ()  # how the addresses begin that a page may ask for
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result."""
        number = next(self._numbers)
        request: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            request["sessionId"] = self._session
        self._socket.send(json.dumps(request))
        while True:
            reply = json.loads(self._socket.recv(timeout=120))
            if reply.get("id") == number:
                assert "error" not in reply, reply
                return dict(reply["result"])
            self.events.append(reply)

    def open(self, page: Path | str, width: int, height: int = 900) -> None:
        """Load `page`, a file or an address, in a window of this size and wait until all of it is there."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.events.clear()
        address = page.resolve().as_uri() if isinstance(page, Path) else page
        self._home = ("file:", "data:") if isinstance(page, Path) else ("/".join(address.split("/")[:3]) + "/",)
        self.call("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self._socket.recv(timeout=120)))

    def problems(self) -> list[dict[str, Any]]:
        """What the page wrote to the console, threw, or asked the network for since it was opened."""
        bad = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Network.loadingFailed")
        asked = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        outside = [one for one in asked if not one["params"]["request"]["url"].startswith(self._home)]
        return [event for event in self.events if event.get("method") in bad] + outside

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def click(self, expression: str) -> None:
        """Click with the mouse on the middle of the element that the expression gives."""
        place = self.evaluate(
            f"(() => {{ const e = {expression}; e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            at = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **at)

    def press(self, key: str, code: int) -> None:
        """Press a key and let it go."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def wait_for(self, expression: str) -> None:
        """Wait until a JavaScript expression is true; one that fails is not yet."""
        for _ in range(PATIENCE):
            found = self.call("Runtime.evaluate", expression=f"Boolean({expression})", returnByValue=True)
            if found["result"].get("value") is True:
                return
            time.sleep(0.1)
        raise AssertionError(f"never true: {expression}; {self.evaluate('document.body.innerText')}")

    def choose(self, selector: str, files: list[Path]) -> None:
        """Choose files, as a user does in the dialog of an <input type=file>."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def screenshot(self, path: Path) -> None:
        """Write the whole page, not only what the window shows, as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(shot))

    def print(self, path: Path) -> None:
        """Write the page as PDF."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"]))


def chromium() -> str:
    """The path of Chromium."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found is not None, "there is no Chromium: scripts/system-packages installs it"
    return found


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile and end it with all its processes."""
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    arguments += ["--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [program, *arguments, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, process_group=0
    )
    try:
        assert process.stderr is not None
        said = (re.search(rb"DevTools listening on (ws://\S+)", line) for line in process.stderr)
        address = next(found[1].decode() for found in said if found)
        with connect(address, max_size=None, proxy=None, open_timeout=120) as socket:
            yield Browser(socket)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
