"""One file over HTTPS, resumed where an earlier attempt was interrupted.

This is a downloader for pooch, whose own starts again each time. The received part is beside the file as `<name>.part`,
with what the server said about it, so that only the rest of the same file is requested.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from fedpolyp.errors import FedpolypError
from fedpolyp.files import parse_json, read_bytes, write_text
from fedpolyp.text import printable

MOST_BYTES = 100 * 1000**3
_CHUNK = 256 * 1024
_ATTEMPTS = 5  # each must receive something
_REDIRECTS = 10

Progress = Callable[[int, int | None], None]


class Broken(Exception):
    """The connection ended before the file did; the message says how."""


@dataclass(frozen=True)
class Transfer:
    """Downloads to `file`; pooch calls it as a downloader.

    Proxies and certificates are those of the environment: HTTPS_PROXY, NO_PROXY, and REQUESTS_CA_BUNDLE or
    SSL_CERT_FILE. Certificates are always verified.
    """

    file: Path
    told: Progress = lambda done, total: None
    connect_timeout: float = 30.0  # seconds
    read_timeout: float = 60.0  # seconds without a byte
    pause: float = 2.0  # seconds before a further attempt

    @property
    def part(self) -> Path:
        """The part received so far."""
        return self.file.with_name(f"{self.file.name}.part")

    @property
    def about(self) -> Path:
        """What the server said about it."""
        return self.file.with_name(f"{self.file.name}.part.json")

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Download `url` to `output_file`, which lies in the folder of `file`.

        Raises:
            FedpolypError: the server cannot be reached, is not who it says, refuses, or the connection broke too often.
        """
        host = printable(requests.utils.urlparse(url).netloc, 200)
        for attempt in range(1, _ATTEMPTS + 1):
            before = self._received()
            try:
                with requests.Session() as session:
                    # A redirection without TLS is not followed.
                    del session.adapters["http://"]
                    session.max_redirects = _REDIRECTS
                    self._receive(session, url, host)
                break
            except Broken as error:
                received = self._received()
                if attempt == _ATTEMPTS or received <= before:
                    kept = f"; {received:,} bytes are kept, and the same command continues from there" * (received > 0)
                    raise FedpolypError(f"the download from {host} broke off: {error}{kept}") from None
                time.sleep(self.pause)
        os.replace(self.part, output_file)
        self.about.unlink(missing_ok=True)

    def _received(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _receive(self, session: requests.Session, url: str, host: str) -> None:
        """Request the missing part, and write it as it comes."""
        start, validator = self._known(url)
        # Without a validator nothing shows that the rest belongs to the same file.
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": validator}
        try:
            with session.get(
                url,
                headers=headers,
                stream=True,
                timeout=(self.connect_timeout, self.read_timeout),
                verify=_authorities(),
            ) as response:
                total = self._begin(response, url, host, start)
                self._write(response, total)
        except requests.exceptions.SSLError as error:
            raise FedpolypError(
                f"the certificate of {host} was not verified ({_reason(error)}), so nothing was downloaded; if its "
                "server leaves out an intermediate certificate, or a proxy has its own authority, name a file with "
                "the certificates to trust in SSL_CERT_FILE"
            ) from None
        except requests.exceptions.InvalidSchema:
            raise FedpolypError(f"{host} redirects to an address without TLS, which is not followed") from None
        except requests.exceptions.TooManyRedirects:
            raise FedpolypError(f"{host} redirects more than {_REDIRECTS} times") from None
        except (requests.exceptions.Timeout, ReadTimeoutError):
            raise Broken(f"no data came for {self.read_timeout:g} s") from None
        except requests.exceptions.ProxyError as error:
            raise FedpolypError(f"the proxy to {host} refused or was not reached: {_reason(error)}") from None
        except (requests.exceptions.RequestException, HTTPError) as error:
            raise Broken(_reason(error)) from None

    def _known(self, url: str) -> tuple[int, str]:
        """How much of `url` is here, and the server's validator of it; (0, '') if the download must start again."""
        with suppress(OSError, ValueError):
            said = parse_json(read_bytes(self.about, 64 * 1024))
            if isinstance(said, dict) and said.get("url") == url and isinstance(said.get("validator"), str):
                return self._received(), said["validator"]
        return 0, ""

    def _begin(self, response: requests.Response, url: str, host: str, start: int) -> int | None:
        """Check the head of an answer, prepare the files, and return the total number of bytes."""
        if response.status_code == 416:  # there is no rest: the local part is not a beginning of this file
            self._forget()
            raise Broken("the server does not have the rest of this file, so the download starts again")
        if response.status_code not in (200, 206):
            said = f"{response.status_code} {printable(response.reason, 100)}"
            raise FedpolypError(f"{host} refused: {said}")
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise FedpolypError(f"{host} sent a page instead of a file: it may ask to sign in, or the file has moved")
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        if response.status_code == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise FedpolypError(f"{host} sent another part of the file than it was asked for")
            total = None if total is None else total + start
        else:
            self._forget()
            validator = response.headers.get("ETag", "")
            if not validator or validator.startswith("W/"):  # a weak one does not promise the same bytes
                validator = response.headers.get("Last-Modified", "")
            if validator:
                write_text(self.about, json.dumps({"url": url, "validator": validator}))
        if (total or 0) > MOST_BYTES:
            raise FedpolypError(f"the file of {host} has {total:,} bytes; at most {MOST_BYTES:,} are downloaded")
        free, missing = shutil.disk_usage(self.file.parent).free, (total or 0) - self._received()
        if missing > free:
            raise FedpolypError(
                f"{missing:,} bytes are still to come, and the disk of {self.file.parent} has {free:,} left"
            )
        return total

    def _write(self, response: requests.Response, total: int | None) -> None:
        done = self._received()
        with self.part.open("ab") as file:
            # requests' own way to read loses the beginning of an incomplete chunk.
            while chunk := response.raw.read1(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if done > MOST_BYTES:
                    raise FedpolypError(f"more than {MOST_BYTES:,} bytes came")
                self.told(done, total)
            file.flush()
            os.fsync(file.fileno())
        if total is not None and done != total:
            raise Broken(f"{done:,} of {total:,} bytes came")

    def _forget(self) -> None:
        for path in (self.part, self.about):
            path.unlink(missing_ok=True)


def _authorities() -> str | bool:
    """The certificates to trust: requests knows REQUESTS_CA_BUNDLE, but not the variable of OpenSSL and others."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        if file := os.environ.get(name):
            if not os.path.exists(file):
                raise FedpolypError(f"{name} names {file}, which does not exist")
            return file
    return True


def _reason(error: BaseException) -> str:
    """The innermost reason of an error of requests, on one line."""
    inner: BaseException | None = error
    while inner is not None:
        error, inner = (
            inner,
            next((arg for arg in (getattr(inner, "reason", None), *inner.args) if _is_error(arg)), None),
        )
    return printable(" ".join(str(error).split()), 200)


def _is_error(value: object) -> bool:
    return isinstance(value, BaseException)
