"""A web server on 127.0.0.1 that serves bytes, and can be made to fail."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class LocalServer:
    """url: ends in "/". files: name -> content. redirects: name -> address.

    break_after: bytes of a file, after which the server hangs up. before_answer: called for each
    request. asked: the names that were requested.
    """

    url: str
    files: dict[str, bytes]
    redirects: dict[str, str] = field(default_factory=dict)
    break_after: int | None = None
    before_answer: Callable[[], object] = lambda: None
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def local_server(files: dict[str, bytes]) -> Iterator[LocalServer]:
    served = LocalServer("", files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/")
            served.asked.append(name)
            served.before_answer()
            if name in served.redirects:
                self.send_response(302)
                self.send_header("Location", served.redirects[name])
                self.end_headers()
            elif name not in served.files:
                self.send_error(404)
            else:
                content = served.files[name]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: served.break_after])

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


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """An address, ending in "/", at which nobody answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler, bind_and_activate=False)
    with server:
        server.server_bind()  # not listening
        yield f"http://127.0.0.1:{server.server_port}/"
