"""Admits only the page itself, opened by the user who started the server.

The server listens on 127.0.0.1 only. This keeps other machines out, but neither the pages of other sites in the same
browser nor other users of this machine: hence the rules here.
"""

import hmac
import re
from collections.abc import Iterable
from hashlib import sha256
from secrets import token_urlsafe

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PUBLIC = "/page/"  # these files, and the page itself at '/', are public
LINKED = ("/report", "/figure")  # a browser opens them by address only, so each has its own key
ENTER = "/api/enter"
# No form of another site can send these without permission.
_KINDS = re.compile(r"(image/[\w.+-]+|application/octet-stream)")
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",  # a browser's cache is on disk
}


class Secrets:
    """The secrets that open the server: a token, a code that gives it once, and a key for each address of a file."""

    def __init__(self) -> None:
        self.token = token_urlsafe(32)
        self._once = token_urlsafe(32)

    @property
    def once(self) -> str:
        """A code that gives the token once: other users of the machine can read a browser's command line."""
        return self._once

    def enter(self, code: str) -> bool:
        """Whether `code` is the one that gives the token; this is true once."""
        right = bool(self._once) and same(code, self._once)
        self._once = "" if right else self._once
        return right

    def key(self, path: str, of: str) -> str:
        """The key that opens only the address `path` with the query `of`."""
        return hmac.new(self.token.encode(), f"{path} {of}".encode(), sha256).hexdigest()


def same(given: str, right: str) -> bool:
    """Whether two texts are equal, in a time that does not reveal how much of them is."""
    return hmac.compare_digest(given.encode(errors="replace"), right.encode())


class Guard:
    """Refuses requests that do not come from the server's own page, and adds the headers that confine it to each
    answer.
    """

    def __init__(self, app: ASGIApp, port: int, secrets: Secrets) -> None:
        self._app, self._secrets = app, secrets
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return  # there is nothing else here
        fault = self._fault(scope)

        async def confined(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                more = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *(one for one in more if one[0] not in own)]}
            await send(message)

        if fault:
            status, sentence = fault
            await JSONResponse({"error": sentence}, status)(scope, receive, confined)
        else:
            await self._app(scope, receive, confined)

    def _fault(self, scope: Scope) -> tuple[int, str] | None:
        """Why a request is refused, with the HTTP status for it."""
        path, asks = scope["path"], scope["method"] in ("GET", "HEAD")
        hosts, origins = _values(scope, "host"), _values(scope, "origin")
        # A foreign name is refused even if it resolves to this machine.
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return 421, f"this server answers to {' and '.join(sorted(self._hosts))} only"
        sites = _values(scope, "sec-fetch-site")
        foreign = any(origin != f"http://{hosts[0]}" for origin in origins)
        foreign |= path != "/" and any(site not in ("same-origin", "none") for site in sites)
        if foreign or (not asks and not origins and "same-origin" not in sites):
            return 403, "only the server's own page may ask for this"
        if path == "/" or path.startswith(PUBLIC) or path in LINKED:
            return None
        given = next(iter(_values(scope, "authorization")), "").removeprefix("Bearer ")
        if path != ENTER and not same(given, self._secrets.token):
            return 401, "open the address that 'fedpolyp view' printed: it contains a token"
        kind = next(iter(_values(scope, "content-type")), "")
        if not asks and path != ENTER and not _KINDS.fullmatch(kind):
            return 415, "an image is sent as image/* or application/octet-stream"
        return None


def _values(scope: Scope, name: str) -> list[str]:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return [value.decode("latin-1") for key, value in headers if key == name.encode()]
