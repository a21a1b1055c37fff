"""The server of the page: its answers, and who gets them."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from importlib.resources import files as package_files
from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from fedpolyp.errors import FedpolypError
from fedpolyp.files import read_bytes
from fedpolyp.report.comparison import PAGE
from fedpolyp.text import printable
from fedpolyp.view import state
from fedpolyp.view.guard import ENTER, PUBLIC, Guard, Secrets, same
from fedpolyp.view.models import models_of
from fedpolyp.view.seeing import MOST_BYTES, Seer, Unreadable
from fedpolyp.view.shelf import Place, Shelf

_SEATS = 4  # images in memory at a time
_PATIENCE = 60.0  # seconds that an image may take to arrive
_CONNECTIONS = 64
_REPORT_BYTES = 256 * 1024**2
_START = "view.html"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# A report may be somebody else's: it gets its own origin, no scripts, and nothing from elsewhere.
_SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"


class Refused(Exception):
    """A request that is answered with the HTTP status `status` and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def application(shelf: Shelf, seer: Seer, port: int, secrets: Secrets) -> ASGIApp:
    """The server as a guarded ASGI application; `port` is where it will listen."""
    api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)  # these pages would load files from elsewhere
    _answer_with_sentences(api)
    _serve_page(api)
    seats = _Seats()

    def place(of: str) -> Place:
        found = shelf.find(of)
        if found is None:
            raise Refused(404, "there is no such run or comparison; it may have been moved or deleted")
        return found

    @api.post(ENTER)
    async def enter(request: Request) -> dict[str, str]:
        code = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not secrets.enter(code):
            raise Refused(401, "this address worked once; open the one that 'fedpolyp view' printed")
        return {"token": secrets.token}

    @api.get("/api/places")
    def places() -> JSONResponse:
        listed = [state.in_short(one) for one in shelf.places()]
        where = {"only": shelf.only, "folder": printable(shelf.root)}
        return JSONResponse({"places": listed, **where, "most_bytes": MOST_BYTES})

    @api.get("/api/place")
    def one_place(of: str, known: str = "") -> JSONResponse:
        found = place(of)
        stamp = state.stamp(found)
        if stamp == known:
            return JSONResponse({"stamp": stamp})
        said = state.of_place(found)
        for file in ("report", "figure"):
            said[file] = f"/{file}?of={quote(of, safe='')}&key={secrets.key(file, of)}" if said[file] else ""
        return JSONResponse({"stamp": stamp, **said})

    @api.get("/api/models")
    def models(of: str) -> JSONResponse:
        found = models_of(place(of))
        listed = [{"id": one.id, "arm": one.arm, "label": one.label, "saved": str(one.saved)} for one in found]
        return JSONResponse({"models": listed})

    @api.post("/api/picture")
    async def picture(request: Request) -> JSONResponse:
        with seats.one():
            return JSONResponse(await seer.picture(await _body(request)))

    @api.post("/api/see")
    async def see(request: Request, of: str, model: str) -> JSONResponse:
        found = await asyncio.to_thread(lambda: [one.path for one in models_of(place(of)) if one.id == model])
        if not found:
            raise Refused(404, "there is no such model")
        with seats.one():
            return JSONResponse(await seer.see(await _body(request), found[0]))

    @api.get("/report")
    def report(of: str, key: str) -> Response:
        content = _file("report", PAGE, of, key)
        return Response(content, media_type="text/html", headers={"content-security-policy": _SANDBOX})

    @api.get("/figure")
    def figure(of: str, key: str) -> Response:
        return Response(_file("figure", state.FIGURE, of, key), media_type="image/png")

    def _file(kind: str, name: str, of: str, key: str) -> bytes:
        if not same(key, secrets.key(kind, of)):
            raise Refused(401, "open this from the page of 'fedpolyp view'")
        path = place(of).path / name
        if path.is_symlink():
            raise Refused(404, f"{name} is a link, and links are not followed")
        try:
            return read_bytes(path, _REPORT_BYTES)
        except OSError:
            raise Refused(404, f"there is no {name}") from None

    return Guard(api, port, secrets)


def serve(app: ASGIApp, listener: socket.socket, stop: threading.Event) -> None:
    """Answer requests to `listener` until `stop` is set; open requests are then aborted.

    Raises:
        FedpolypError: the server has ended unexpectedly.
    """
    import uvicorn

    settings = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        http="h11",
        loop="asyncio",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
    )
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True, name="view")
    thread.start()
    while not stop.wait(0.2):
        if not thread.is_alive():
            raise FedpolypError("the server of the page has ended unexpectedly")
    server.should_exit = server.force_exit = True
    thread.join(2)


def listening(port: int) -> socket.socket:
    """A socket that listens on `port` of 127.0.0.1; 0 takes a free one.

    Raises:
        FedpolypError: it cannot.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise FedpolypError(
            f"cannot listen on port {port} of 127.0.0.1: {error.strerror}; choose another with --port; 0 takes a free "
            "one"
        ) from None
    return listener


def _answer_with_sentences(api: FastAPI) -> None:
    """Answer every failure with {"error": sentence}; none of them ends the server."""

    @api.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        headers = {"retry-after": "1"} if error.status == 503 else None
        return JSONResponse({"error": error.sentence}, error.status, headers)

    @api.exception_handler(Unreadable)
    async def unreadable(_: Request, error: Unreadable) -> JSONResponse:
        return JSONResponse({"error": printable(error)}, 422)

    @api.exception_handler(FedpolypError)
    async def failed(_: Request, error: FedpolypError) -> JSONResponse:
        return JSONResponse({"error": printable(error)}, 500)

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": "the request is incomplete, or has something that is not allowed"}, 422)

    @api.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": f"there is nothing here: {error.detail}"}, error.status_code)

    @api.middleware("http")
    async def unforeseen(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            return await answer(request)
        except ClientDisconnect:
            return Response(status_code=499)  # which nobody reads
        except Exception as error:
            return JSONResponse({"error": printable(f"this failed: {type(error).__name__}: {error}")}, 500)


def _serve_page(api: FastAPI) -> None:
    for file in (package_files("fedpolyp.view") / "page").iterdir():
        answer = _answering(file.read_bytes(), _TYPES[Path(file.name).suffix])
        path = "/" if file.name == _START else f"{PUBLIC}{file.name}"
        api.add_api_route(path, answer, methods=["GET"], response_class=Response)


def _answering(content: bytes, kind: str) -> Callable[[], Response]:
    return lambda: Response(content, media_type=kind)


class _Seats:
    """Limits how many images may be sent at a time, because each is held in memory."""

    def __init__(self) -> None:
        self._taken = 0

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """A block for one image.

        Raises:
            Refused: there are too many.
        """
        if self._taken >= _SEATS:
            raise Refused(503, f"{_SEATS} images are being processed already; try again in a moment")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


async def _body(request: Request) -> bytes:
    """The request's body, in memory.

    Raises:
        Refused: it is too large, or takes too long.
    """
    too_large = Refused(413, f"an image may have {MOST_BYTES / 1e6:.0f} MB")
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared[:20]) > MOST_BYTES:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(_PATIENCE):
            async for chunk in request.stream():
                content += chunk
                if len(content) > MOST_BYTES:
                    raise too_large
    except TimeoutError:
        raise Refused(408, f"the image did not arrive within {_PATIENCE:.0f} s") from None
    return bytes(content)
