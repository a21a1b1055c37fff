"""The server answers its own page and nobody else, and goes on after whatever it is sent."""

import asyncio
import http.client
import json
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fedpolyp.errors import FedpolypError
from fedpolyp.view import server
from fedpolyp.view.guard import Secrets
from fedpolyp.view.seeing import Seer
from fedpolyp.view.server import application, listening, serve
from fedpolyp.view.shelf import Shelf
from tests.view.places import Red, begin, carry, end
from tests.view.test_seeing import encoded

PORT = 8642
OWN = f"http://127.0.0.1:{PORT}"
IMAGE = encoded(".png", np.full((12, 16, 3), 200, np.uint8))
SEE = "/api/see?of=run&model=model-last.keras"


class Page:
    """Sends what the page sends."""

    def __init__(self, root: Path, load: Callable[[Path], Any] = lambda path: Red()) -> None:
        self.secrets = Secrets()
        self.app = application(Shelf(root), Seer(load), PORT, self.secrets)
        self.headers = {"authorization": f"Bearer {self.secrets.token}", "origin": OWN, "sec-fetch-site": "same-origin"}

    def ask(
        self, path: str, method: str = "GET", without: str = "", content: Any = None, **headers: str | bytes
    ) -> httpx.Response:
        return asyncio.run(self.asking(path, method, without, content, **headers))

    async def asking(
        self, path: str, method: str = "GET", without: str = "", content: Any = None, **headers: str | bytes
    ) -> httpx.Response:
        given: dict[str, Any] = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        if method == "POST":
            given.setdefault("content-type", "image/png")
        given = {name: value for name, value in given.items() if name not in without.split()}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=OWN) as client:
            return await client.request(method, path, headers=given, content=content)

    def sees(self) -> bool:
        """Whether all is well."""
        said = self.ask(SEE, "POST", content=IMAGE)
        return said.status_code == 200 and said.json()["width"] == 16


@pytest.fixture
def root(tmp_path: Path) -> Path:
    run = begin(tmp_path / "runs" / "run")
    carry(run, 4)
    end(run)
    (tmp_path / "secret.html").write_text("secret")
    return tmp_path / "runs"


@pytest.fixture
def page(root: Path) -> Page:
    return Page(root)


def test_the_page_gets_runs_their_state_models_and_what_these_see(page: Page) -> None:
    assert [place["name"] for place in page.ask("/api/places").json()["places"]] == ["run"]
    said = page.ask("/api/place?of=run").json()
    assert said["sentence"] == "Finished after round 4." and said["report"] == ""
    assert page.ask(f"/api/place?of=run&known={said['stamp']}").json() == {"stamp": said["stamp"]}
    assert [model["id"] for model in page.ask("/api/models?of=run").json()["models"]] == [
        "model-last.keras",
        "model-best.keras",
    ]
    assert page.sees()
    assert page.ask("/api/picture", "POST", content=IMAGE).json()["height"] == 12


def test_every_answer_confines_the_page_to_this_server(page: Page) -> None:
    for path in ("/", "/page/view.css", "/page/view.js", "/page/icon.svg", "/api/places", "/report", "/no"):
        headers = page.ask(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy.pop("default-src") == policy.pop("frame-ancestors") == policy.pop("base-uri") == "'none'"
        assert policy.pop("form-action") == "'none'" and policy.pop("require-trusted-types-for") == "'script'"
        assert set(policy) == {"script-src", "style-src", "img-src", "connect-src"}
        assert set(policy.values()) == {"'self'"}
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == "same-origin" and headers["x-frame-options"] == "DENY"
        assert not [name for name in headers if name.startswith("access-control")]


def test_the_page_itself_asks_for_nothing_elsewhere_and_holds_no_secret(page: Page) -> None:
    for path in ("/", *(f"/page/{file.name}" for file in (Path(server.__file__).parent / "page").iterdir())):
        if path == "/page/view.html":
            continue
        said = page.ask(path, without="authorization origin sec-fetch-site")
        assert said.status_code == 200, path
        text = said.text.replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text and page.secrets.token not in text
        assert "innerHTML" not in text and "style=" not in text and "eval(" not in text


FOREIGN: list[dict[str, str]] = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:9999"},
    {"origin": f"https://127.0.0.1:{PORT}"},
    {"origin": f"http://localhost:{PORT}"},  # it is another than the host that was asked
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_other_origins_are_refused_whatever_else_they_know(page: Page, headers: dict[str, str]) -> None:
    for path in (SEE, "/api/picture", "/api/enter"):
        said = page.ask(path, "POST", content=IMAGE, **headers)
        assert (said.status_code, said.json()) == (403, {"error": "only the server's own page may ask for this"})
    for path in ("/api/places", "/api/place?of=run", "/api/models?of=run", "/report?of=run"):
        assert page.ask(path, **headers).status_code == 403


def test_a_request_that_changes_or_computes_must_say_where_it_is_from(page: Page) -> None:
    assert page.ask(SEE, "POST", "origin sec-fetch-site", IMAGE).status_code == 403
    assert page.ask(SEE, "POST", "origin", IMAGE).status_code == 200
    assert page.ask(SEE, "POST", "sec-fetch-site", IMAGE).status_code == 200


HOSTS = ["evil.example", "127.0.0.1", "127.0.0.1:9999", ""]
HOSTS += [f"{name}:{PORT}" for name in ("evil.example", "127.0.0.1.nip.io", "0.0.0.0")]


@pytest.mark.parametrize("host", HOSTS)
def test_a_name_that_was_made_to_lead_here_is_refused(page: Page, host: str) -> None:
    for path in ("/", "/api/places", "/report"):
        said = page.ask(path, without="origin", host=host)
        assert said.status_code == 421
        assert said.json()["error"].startswith(f"this server answers to 127.0.0.1:{PORT} and localhost")


def test_localhost_is_answered_too(page: Page) -> None:
    assert page.ask("/api/places", without="origin", host=f"localhost:{PORT}").status_code == 200


def test_another_user_of_the_machine_who_has_no_token_gets_nothing(page: Page) -> None:
    (Path(page.ask("/api/places").json()["folder"]) / "run" / "report.html").write_text("report")
    link = page.ask("/api/place?of=run").json()["report"]
    assert page.ask(link, without="authorization").text == "report"
    for path, method in (("/api/places", "GET"), ("/api/place?of=run", "GET"), (SEE, "POST"), ("/api/picture", "POST")):
        for token in ("", "Bearer ", "Bearer wrong", page.secrets.token[:-1], "Bearer é"):
            said = page.ask(
                path, method, content=IMAGE if method == "POST" else None, authorization=token.encode("latin-1")
            )
            assert said.status_code == 401 and "token" in said.json()["error"]
    for wrong in (
        link.replace("/report", "/figure"),
        link[:-1],
        link.split("&key")[0] + "&key=",
        "/report?of=run&key=é",
    ):
        assert page.ask(wrong).status_code == 401, wrong


def test_the_code_on_a_browsers_command_line_gives_the_token_once(page: Page) -> None:
    code = page.secrets.once
    assert page.ask("/api/enter", "POST", authorization="Bearer wrong").status_code == 401
    assert page.ask("/api/enter", "POST", authorization=f"Bearer {code}").json() == {"token": page.secrets.token}
    for again in (code, ""):
        assert page.ask("/api/enter", "POST", authorization=f"Bearer {again}").status_code == 401
    assert page.ask("/api/places", authorization=f"Bearer {code}").status_code == 401


def test_a_name_leads_out_of_no_folder(page: Page) -> None:
    names = ["", ".", "..", "../secret.html", "../runs/run", "/etc", "run/../../secret.html", "run%2f..", "run\0"]
    for name in (*names, "..\\run", "x" * 5000):
        of, model = (httpx.QueryParams(query) for query in ({"of": name}, {"of": "run", "model": name}))
        answers = [page.ask(f"{path}?{of}") for path in ("/api/place", "/api/models")]
        answers.append(page.ask(f"/api/see?{of}&model=model-last.keras", "POST", content=IMAGE))
        answers.append(page.ask(f"/api/see?{model}", "POST", content=IMAGE))
        # Even to one who could make keys.
        answers += [page.ask(f"/{kind}?{of}&key={page.secrets.key(kind, name)}") for kind in ("report", "figure")]
        assert [said.status_code for said in answers] == [404] * 6, name
        assert not any("secret" in said.text for said in answers)
    for path in ("/page/../server.py", "/page/..%2fserver.py", "/page//etc/passwd", "/page/", "/page/__init__.py"):
        assert page.ask(path).status_code == 404
    assert page.sees()


def test_a_report_of_somebody_else_runs_nothing_and_reads_nothing(page: Page, root: Path) -> None:
    (root / "run" / "report.html").write_text("<script>fetch('/api/places')</script>")
    (root / "run" / "predictions.png").write_bytes(b"<script>")
    said = page.ask("/api/place?of=run").json()
    policy = page.ask(said["report"]).headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'") and "script" not in policy and "allow" not in policy
    figure = page.ask(said["figure"])
    assert figure.headers["content-type"] == "image/png" and figure.headers["x-content-type-options"] == "nosniff"


def test_a_report_that_is_a_link_is_not_followed(page: Page, root: Path) -> None:
    (root / "run" / "report.html").symlink_to(root.parent / "secret.html")
    assert page.ask("/api/place?of=run").json()["report"] == ""
    said = page.ask(f"/report?of=run&key={page.secrets.key('report', 'run')}")
    assert said.status_code == 404 and "secret" not in said.text


def test_a_comparisons_models_are_told_by_arm_and_each_is_asked_by_its_own_name(tmp_path: Path) -> None:
    for arm in ("local", "fedavg"):
        end(
            begin(tmp_path / "both" / arm / "3", algorithm__name=arm, seed=3),
            ["model-last" if arm == "fedavg" else "model-last-oslo"],
        )
    loaded: list[Path] = []

    def load(path: Path) -> Red:
        loaded.append(path)
        return Red()

    page = Page(tmp_path, load)
    listed = page.ask("/api/models?of=both").json()["models"]
    assert all(one.pop("saved").isdecimal() for one in listed)
    assert listed == [
        {"id": "local/3/model-last-oslo.keras", "arm": "Local", "label": "seed 3, oslo, last round"},
        {"id": "fedavg/3/model-last.keras", "arm": "FedAvg", "label": "seed 3, last round"},
    ]
    assert page.ask("/api/see?of=both&model=fedavg/3/model-last.keras", "POST", content=IMAGE).status_code == 200
    assert loaded == [tmp_path / "both" / "fedavg" / "3" / "model-last.keras"]


def test_what_is_sent_as_a_form_or_as_nothing_is_refused(page: Page) -> None:
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "text/html", ""):
        assert page.ask(SEE, "POST", content=IMAGE, content_type=kind).status_code == 415, kind
    assert page.ask(SEE, "POST", content=b"no image").status_code == 422
    assert page.sees()


def test_what_is_too_large_is_not_read_to_its_end(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_BYTES", 1000)
    sent: list[int] = []

    for declared in ("1001", "99999999999999999999999999", "-1", "x"):
        said = page.ask(SEE, "POST", content=IMAGE, content_length=declared)
        assert said.status_code == 413 and said.json() == {"error": "an image may have 0 MB"}

    async def receive() -> dict[str, Any]:
        sent.append(100)
        return {"type": "http.request", "body": bytes(100), "more_body": len(sent) < 100}

    assert raw(page, receive)[0] == 413 and len(sent) == 11
    assert page.sees()


def raw(page: Page, receive: Callable[[], Awaitable[dict[str, Any]]]) -> tuple[int, bytes]:
    """What a request for what the model sees is answered, whose body `receive` gives piece by piece."""
    headers = {**page.headers, "host": OWN.removeprefix("http://"), "content-type": "image/png"}
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/api/see",
        "raw_path": b"",
        "http_version": "1.1",
    }
    scope |= {
        "query_string": SEE.split("?")[1].encode(),
        "scheme": "http",
        "server": ("127.0.0.1", PORT),
        "root_path": "",
    }
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
    answer: list[Any] = []

    async def send(message: Any) -> None:
        answer.append(message)

    async def answered() -> None:
        await page.app(scope, receive, send)

    asyncio.run(answered())
    return answer[0]["status"], b"".join(message.get("body", b"") for message in answer[1:])


def test_who_sends_an_image_and_never_ends_is_not_waited_for(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 0.05)

    async def nothing() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    for _ in range(10):  # more often than there are seats
        assert raw(page, nothing)[0] == 408
    monkeypatch.undo()
    assert page.sees()


def test_who_goes_away_in_the_middle_leaves_a_free_seat(page: Page) -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    for _ in range(10):
        raw(page, gone)
    assert page.sees()


def test_of_many_images_at_once_a_few_are_taken_and_the_others_told_to_come_again(root: Path) -> None:
    free, asked = threading.Event(), threading.Event()

    class Slow(Red):
        def at_own_size(self, images: Any) -> Any:
            asked.set()
            assert free.wait(120)
            return super().at_own_size(images)

    slow = Slow()
    page = Page(root, lambda path: slow)

    async def all_at_once() -> list[httpx.Response]:
        first = [asyncio.create_task(page.asking(SEE, "POST", content=IMAGE)) for _ in range(30)]
        await asyncio.to_thread(asked.wait, 120)
        while sum(one.done() for one in first) < 26:
            await asyncio.sleep(0.01)
        free.set()
        return await asyncio.gather(*first)

    answers = asyncio.run(all_at_once())
    assert sorted(one.status_code for one in answers) == [200] * 4 + [503] * 26
    assert len(slow.asked) == 4
    assert {one.headers.get("retry-after") for one in answers if one.status_code == 503} == {"1"}
    assert page.sees()


def test_a_model_that_fails_is_told_in_a_sentence_and_the_next_one_is_asked(root: Path) -> None:
    faults: list[Exception] = [FedpolypError("it is damaged"), ValueError("what\x1b"), MemoryError()]

    def load(path: Path) -> Red:
        if faults:
            raise faults.pop(0)
        return Red()

    page = Page(root, load)
    said = [page.ask(SEE, "POST", content=IMAGE) for _ in range(3)]
    assert [one.status_code for one in said] == [500] * 3
    assert [one.json()["error"] for one in said][:2] == ["it is damaged", "this failed: ValueError: what\\x1b"]
    assert page.sees()


_watched: list[Any] | None = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is not None and event in (
        "open",
        "os.mkdir",
        "os.rename",
        "tempfile.mkstemp",
        "tempfile.mkdtemp",
        "shutil.copyfile",
    ):
        _watched.append((event, *arguments))


def test_an_image_is_written_to_no_file(page: Page) -> None:
    global _watched
    assert page.sees()  # what is loaded by the first is loaded
    big = encoded(".bmp", np.random.default_rng(0).integers(0, 255, (1200, 1600, 3), np.uint8))  # 6 MB
    sys.addaudithook(_hear)
    heard: list[Any] = []
    _watched = heard
    try:
        assert page.ask(SEE, "POST", content=big).status_code == 200
        assert page.ask("/api/picture", "POST", content=big).status_code == 200
    finally:
        _watched = None
    writing = [one for one in heard if one[0] != "open" or (isinstance(one[3], int) and one[3] & 3)]
    assert [one for one in writing if one[1] != "/dev/null"] == []  # where decoders' complaints go


def test_methods_paths_and_queries_that_are_none_are_told_so(page: Page) -> None:
    for path, method, status in (
        ("/api/see", "GET", 405),
        ("/api/places", "POST", 405),
        ("/docs", "GET", 404),
        ("/openapi.json", "GET", 404),
        ("/api/place", "GET", 422),
        ("/api/see?of=run", "POST", 422),
        ("/api/places", "OPTIONS", 415),
    ):
        said = page.ask(path, method, content=IMAGE if method == "POST" else None)
        assert said.status_code == status and set(said.json()) == {"error"}, path


@pytest.fixture
def live(page: Page) -> Iterator[tuple[str, int]]:
    """The server on a socket."""
    stop = threading.Event()
    with listening(0) as listener:
        port = listener.getsockname()[1]
        app = application(
            Shelf(Path(page.ask("/api/places").json()["folder"])), Seer(lambda path: Red()), port, page.secrets
        )
        thread = threading.Thread(target=serve, args=(app, listener, stop))
        thread.start()
        yield page.secrets.token, port
        stop.set()
        thread.join()


def see(token: str, port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    origin = f"http://127.0.0.1:{port}"
    headers = {"authorization": f"Bearer {token}", "origin": origin, "content-type": "image/png"}
    connection.request("POST", SEE, IMAGE, headers)
    answer = connection.getresponse()
    json.loads(answer.read())
    return answer.status


def test_on_a_real_socket_it_goes_on_after_what_is_no_request_and_half_of_one(live: tuple[str, int]) -> None:
    token, port = live
    assert see(token, port) == 200
    host = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nOrigin: http://127.0.0.1:{port}\r\n".encode()
    half = (
        b"POST "
        + SEE.encode()
        + b" HTTP/1.1\r\n"
        + host
        + b"Content-Type: image/png\r\nContent-Length: 5000\r\n\r\n"
        + IMAGE
    )
    hostile = [
        b"",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        half,
    ]
    hostile += [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n" + host + b"\r\n",
    ]
    for content in hostile * 3:
        with socket.create_connection(("127.0.0.1", port)) as other:
            other.sendall(content)
    assert see(token, port) == 200


def test_it_listens_on_this_machine_alone_and_a_port_in_use_is_one_sentence() -> None:
    with listening(0) as first:
        assert first.getsockname()[0] == "127.0.0.1"
        port = first.getsockname()[1]
        with pytest.raises(
            FedpolypError,
            match=f"^cannot listen on port {port} of 127.0.0.1: Address already in use; choose another with --port",
        ):
            listening(port)
