"""The page in Chromium: it watches a run by itself, asks models, cuts at the slider, and fits whoever looks."""

import base64
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fedpolyp.inference.lesions import lesions
from fedpolyp.sites.progress import FileWatcher, progress_file
from fedpolyp.view.guard import Secrets
from fedpolyp.view.seeing import Seer
from fedpolyp.view.server import application, listening, serve
from fedpolyp.view.shelf import Shelf
from tests.browser import Browser, browser, chromium
from tests.test_command_line import FEDPOLYP, ROOT
from tests.view.places import Red, begin, carry, end

pytestmark = pytest.mark.slow
OUTSIDE = (
    "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, .unseen, .skip') &&"
    " e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 80)).join()"
)


@contextmanager
def served(root: Path, load: Callable[[Path], Any] = lambda path: Red()) -> Iterator[tuple[str, Secrets]]:
    """The server's address, and what opens it."""
    stop, secrets = threading.Event(), Secrets()
    with listening(0) as listener:
        port = listener.getsockname()[1]
        arguments = (application(Shelf(root), Seer(load), port, secrets), listener, stop)
        thread = threading.Thread(target=serve, args=arguments)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/", secrets
        finally:
            stop.set()
            thread.join()


def go(tab: Browser, place: str) -> None:
    tab.evaluate(f"location.hash = {json.dumps(place)}")


def nameless(tab: Browser) -> list[str]:
    """The roles of what can be used, or is looked at, and has no name for who does not see it."""
    tree = tab.call("Accessibility.getFullAXTree")["nodes"]
    named = {
        "button",
        "slider",
        "combobox",
        "link",
        "radio",
        "image",
        "img",
        "progressbar",
        "region",
        "navigation",
        "progressindicator",
    }
    seen = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    assert any(role == "link" for role, _ in seen)
    return [role for role, name in seen if role in named and not name]


def test_a_run_is_watched_without_a_hand_by_keys_on_a_phone_and_in_the_dark(tmp_path: Path) -> None:
    run = begin(tmp_path / "runs" / "one")
    watcher = FileWatcher(progress_file(run), "")
    with browser(chromium(), tmp_path / "profile") as tab, served(tmp_path / "runs") as (address, secrets):
        tab.open(f"{address}#once={secrets.once}", width=1280)
        tab.wait_for("document.querySelector('.places a')")
        assert tab.evaluate("location.href") == address  # no secret stays in the address bar
        tab.press("Tab", 9)
        assert tab.evaluate("document.activeElement.textContent") == "Skip to the content"
        tab.press("Tab", 9)
        assert tab.evaluate("document.activeElement.textContent") == "one"
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        tab.evaluate("document.activeElement.click()")
        tab.wait_for("document.querySelector('.state').textContent.includes('It has not started yet.')")
        assert tab.evaluate("document.activeElement.tagName") == "H1"
        with run.locked():
            carry(run, 2)
            watcher.asked(3, "train", ["oslo"])
            tab.wait_for("document.querySelector('.state').textContent.includes('Round 3 of 4 is running')")
            tab.wait_for("document.querySelector('tr.now')")
            assert tab.evaluate("document.querySelector('tr.now').cells[0].textContent") == "oslo"
            assert "Round 3 of 4" in tab.evaluate("document.querySelector('[role=status]').textContent")
            spoken = tab.evaluate("document.querySelector('.chart svg').getAttribute('aria-label')")
            assert spoken.endswith("held-out images 0.400 after round 2")
            tab.evaluate("document.querySelector('details').open = true")
            carry(run, 4, since=3, refused=[{"hospital": "oslo", "reason": "it was late"}])
        end(run)
        tab.wait_for("document.querySelector('.state').textContent.includes('Finished after round 4')")
        assert tab.evaluate("document.querySelector('details').open") is True  # what was opened stays so
        assert "it was late" in tab.evaluate("document.querySelector('main').innerText")
        assert tab.evaluate("document.title").startswith("4/4 one")
        assert nameless(tab) == []
        troubles = tab.problems()
        for width in (375, 1280):
            for place in ("#/", "#/one", "#/one?images"):
                tab.open("about:blank", width=width)
                tab.open(address + place, width=width)
                tab.wait_for("document.querySelector('.badge')")
                assert tab.evaluate("document.documentElement.scrollWidth") <= width
                assert tab.evaluate(OUTSIDE) == ""
                troubles += tab.problems()
        background = "getComputedStyle(document.documentElement).backgroundColor"
        assert tab.evaluate(background) == "rgb(255, 255, 255)"
        tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        assert tab.evaluate(background) == "rgb(18, 20, 23)"
    assert troubles == []


def picture(path: Path) -> NDArray[np.uint8]:
    """Three reddish blobs on a ramp, written to `path`; as RGB."""
    pixels = np.zeros((90, 140, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 120, 140, dtype=np.uint8)
    for middle, red in (((30, 30), 255), ((100, 45), 200), ((60, 70), 150)):
        cv2.circle(pixels, middle, 15, (red, 20, 20), -1)
    cv2.imwrite(str(path), pixels[..., ::-1])
    return pixels


def noted(pixels: NDArray[np.uint8], threshold: float) -> str:
    """What the page says below an image of which `Red` was asked."""
    field = (pixels[..., 0] / 255).astype(np.float32)
    mask = (field >= np.float32(threshold)).astype(np.uint8)
    found, share = len(lesions(mask, field)), 100 * mask.mean()
    said = "no lesion" if not found else f"{found} lesion{'s' * (found > 1)}"
    return f"{said}, {share:.2f} % of the image" if share < 10 else f"{said}, {share:.1f} % of the image"


SAVED = """
window.saved = null;
URL.createObjectURL = new Proxy(URL.createObjectURL, { apply(make, url, [blob]) {
  createImageBitmap(blob).then((map) => {
    const context = new OffscreenCanvas(map.width, map.height).getContext('2d');
    context.drawImage(map, 0, 0);
    const pixels = context.getImageData(0, 0, map.width, map.height).data;
    window.saved = [map.width, map.height, [...pixels].filter((_, at) => at % 4 === 0).map((one) => one && 1).join('')];
  });
  return make.call(url, blob);
} });
"""


def saved_mask(tab: Browser) -> NDArray[np.uint8]:
    tab.evaluate("window.saved = null; document.querySelector('.answers button').click()")
    tab.wait_for("window.saved")
    width, height, bits = tab.evaluate("window.saved")
    return np.array(list(bits), np.uint8).reshape(height, width)


DROPPED = """(() => {{
  const dropped = new DataTransfer(), bytes = Uint8Array.from(atob({}), (char) => char.charCodeAt(0));
  dropped.items.add(new File([bytes], "dropped.png"));
  document.body.dispatchEvent(new DragEvent("drop", {{ dataTransfer: dropped, bubbles: true, cancelable: true }}));
}})()"""
NOTES = "[...document.querySelectorAll('.note')].map(e => e.textContent)"


def test_arms_answer_side_by_side_and_the_slider_cuts_to_the_pixel(tmp_path: Path) -> None:
    for arm in ("pooled", "fedavg"):
        run = begin(tmp_path / "runs" / "both" / arm / "0", algorithm__name=arm)
        carry(run, 4)
        end(run)
    pixels, bad = picture(tmp_path / "blobs.png"), tmp_path / "no-image.png"
    bad.write_bytes(b"no image")

    def load(path: Path) -> Red:
        red = Red()
        red.threshold = 0.5 if "pooled" in path.parts else 0.7
        return red

    with browser(chromium(), tmp_path / "profile") as tab, served(tmp_path / "runs", load) as (address, secrets):
        tab.open(f"{address}#token={secrets.token}", width=1280)
        tab.wait_for("document.querySelector('.places a')")
        go(tab, "/both?images")
        tab.wait_for("document.querySelectorAll('.answers figure').length === 2")
        tab.choose("#files", [tmp_path / "blobs.png", bad])
        tab.wait_for(f"{NOTES}.every(text => text.endsWith('of the image'))")
        assert tab.evaluate(NOTES) == [noted(pixels, 0.5), noted(pixels, 0.7)]  # each model's own
        assert tab.evaluate("document.querySelector('output').textContent") == "own"
        tab.wait_for(
            "document.querySelector('[role=alert].bad').textContent.startsWith('no-image.png: cannot be decoded')"
        )
        tab.evaluate("document.querySelector('#threshold').focus()")
        for _ in range(3):
            tab.press("ArrowRight", 39)
        at = float(tab.evaluate("document.querySelector('#threshold').value"))
        assert at == pytest.approx(0.515) and tab.evaluate(NOTES) == [noted(pixels, at)] * 2
        assert tab.evaluate("document.querySelector('output').textContent") == "0.515"
        tab.evaluate(SAVED)
        for threshold in (0.005, 0.21, 0.59, 0.785, 0.995):
            tab.evaluate(
                f"(() => {{ const s = document.querySelector('#threshold'); s.value = {threshold};"
                " s.dispatchEvent(new Event('input')); })()"
            )
            assert tab.evaluate(NOTES) == [noted(pixels, threshold)] * 2, threshold
            field = (pixels[..., 0] / 255).astype(np.float32)
            assert (saved_mask(tab) == (field >= np.float32(threshold))).all()
        ways = {}
        for way in ("outline", "mask", "probability", "image"):
            tab.evaluate(f"document.querySelector('input[value={way}]').click()")
            ways[way] = tab.evaluate("document.querySelector('.answers canvas').toDataURL()")
        assert len(set(ways.values())) == 4
        mask = cv2.imdecode(np.frombuffer(base64.b64decode(ways["mask"].split(",")[1]), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert mask is not None and set(np.unique(mask)) == {0, 255}
        tab.evaluate("document.querySelector('.slider button').click()")
        assert tab.evaluate(NOTES) == [noted(pixels, 0.5), noted(pixels, 0.7)]
        end(run)  # the run has saved its models anew
        os.utime(run.model_file("last"), (1000, 1000))
        answers = "performance.getEntriesByType('resource').filter(e => e.name.includes('/api/see')).length"
        tab.wait_for(f"{answers} === 3 && {NOTES}.every(text => text.endsWith('of the image'))")  # asked again, alone
        tab.evaluate(DROPPED.format(json.dumps(base64.b64encode((tmp_path / "blobs.png").read_bytes()).decode())))
        tab.wait_for("document.querySelectorAll('.chosen button').length === 3")
        tab.wait_for("document.querySelector('.chosen [aria-pressed=true]').textContent === 'dropped.png'")
        tab.wait_for(f"{answers} === 5 && {NOTES}.every(text => text.endsWith('of the image'))")
        assert tab.evaluate(NOTES) == [noted(pixels, 0.5), noted(pixels, 0.7)]
        assert nameless(tab) == []
        tab.call("Emulation.setDeviceMetricsOverride", width=375, height=800, deviceScaleFactor=1, mobile=True)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 375
        assert tab.evaluate(OUTSIDE) == ""
        refused = [one for one in tab.problems() if "422" not in json.dumps(one)]  # Chromium tells of the bad image
        assert refused == []


def test_before_there_is_a_model_the_page_says_when_there_will_be_one(tmp_path: Path) -> None:
    run = begin(tmp_path / "runs" / "one")
    with browser(chromium(), tmp_path / "profile") as tab, served(tmp_path / "runs") as (address, secrets):
        tab.open(f"{address}#token={secrets.token}", width=1280)
        tab.wait_for("document.querySelector('.places a')")
        go(tab, "/one?images")
        tab.wait_for(
            "document.querySelector('main').innerText.includes('saves its models when it ends, after round 4')"
        )
        assert tab.evaluate("document.querySelector('.drop').checkVisibility()") is False
        carry(run, 4)
        end(run)
        tab.wait_for("document.querySelector('.drop').checkVisibility()")  # by itself
        with served(tmp_path / "empty") as (other, more):
            tab.open(f"{other}#token={more.token}", width=1280)
            tab.wait_for("document.querySelector('main').innerText.includes('There is no run in')")
        tab.open(address, width=1280)
        go(tab, "token=wrong")
        tab.wait_for("document.querySelector('[role=alert]').textContent.includes('it contains a token')")


def test_a_real_model_sees_in_the_page_what_predict_sees(tmp_path: Path) -> None:
    import keras

    from fedpolyp.inference.predictor import Predictor

    run = begin(tmp_path / "runs" / "one")
    carry(run, 4)
    end(run, [])
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    layer = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")
    network = keras.Model(inputs, layer(keras.layers.Rescaling(1 / 255)(inputs)))
    pixels = picture(tmp_path / "blobs.png")
    bright = np.zeros((3, 3, 3, 1))
    bright[1, 1] = 20  # it sees what is brighter than the mean
    layer.set_weights([bright, np.full(1, -60 * pixels.mean() / 255)])
    network.save(run.model_file("last"))
    command = [*FEDPOLYP, "view", "one", "--port", "0", "--no-open"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) as process,
        browser(chromium(), tmp_path / "profile") as tab,
    ):
        try:
            assert process.stdout is not None
            address = re.match(r"http://\S+", process.stdout.readline())
            assert address
            tab.open(address[0], width=1280)
            tab.wait_for("document.querySelector('.chart path.heldout')")
            go(tab, "/one?images")
            tab.wait_for("document.querySelector('.answers figure')")
            tab.choose("#files", [tmp_path / "blobs.png"])
            tab.wait_for(f"{NOTES}.every(text => text.endsWith('of the image'))")
            tab.evaluate(SAVED)
            (seen,) = Predictor.load(run.path).see([pixels])
            differs = saved_mask(tab) != seen.mask
            near = np.abs(seen.probability - 0.5) < 1e-4  # another number of threads may round otherwise
            assert not (differs & ~near).any() and 0 < seen.mask.mean() < 1
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")
