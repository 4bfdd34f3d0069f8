"""A web server on 127.0.0.1 that serves bytes, whole or as asked by Range, and can misbehave."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO


@dataclass
class LocalServer:
    """url: ends in "/". ranges: the Range header of each GET, None where there was none.

    raw: writes the whole answer itself, from its first byte, until the other side hangs up.
    """

    url: str
    files: dict[str, bytes]
    redirects: dict[str, str] = field(default_factory=dict)
    break_after: int | None = None
    with_ranges: bool = True
    with_length: bool = True
    with_right_start: bool = True
    raw: Callable[[BinaryIO], None] | None = None
    ranges: list[str | None] = field(default_factory=list)


@contextlib.contextmanager
def local_server(files: dict[str, bytes]) -> Iterator[LocalServer]:
    served = LocalServer("", files)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_GET(self) -> None:
            name = self.path.removeprefix("/")
            asked = self.headers.get("Range")
            served.ranges.append(asked)
            if served.raw is not None:
                self.close_connection = True
                with contextlib.suppress(OSError):
                    served.raw(self.wfile)
                return
            if name in served.redirects:
                self.send_response(302)
                self.send_header("Location", served.redirects[name])
                self.end_headers()
                return
            if name not in served.files:
                self.send_error(404)
                return
            content = served.files[name]
            start = 0
            if asked is not None and served.with_ranges:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                start = start if served.with_right_start else 0
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                last = len(content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
            else:
                self.send_response(200)
            if served.with_length:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:][: served.break_after])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
