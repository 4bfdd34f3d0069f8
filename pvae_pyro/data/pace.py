"""Connections that a server cannot keep waiting, however it trickles."""

import contextlib
import http.client
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from pvae_pyro.data.corpus import CorpusError

_SLOWEST = 1000  # bytes of the file a second, over each `_WINDOW`: less is as good as nothing
_WINDOW = 30.0  # seconds


class Pace:
    """Hangs up on a server that sends too little of a file in any `_WINDOW`.

    A socket's timeout is of each byte alone, and bytes of a handshake, a header, a chunk's size
    or a trailer, which may come for ever, are none of the file.
    """

    def __init__(self) -> None:
        self.received = 0  # bytes of the file
        self._sock: socket.socket | None = None
        self._slow, self._done = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Raises ConnectionError instead of what comes of a connection that was hung up."""
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        try:
            yield
        except CorpusError:
            raise
        except Exception as error:
            self._raise_if_slow(error)
            raise
        finally:
            self._done.set()
            thread.join()
        self._raise_if_slow(None)  # without a length, what is cut looks whole

    def end(self) -> None:
        """Nothing more is to come."""
        self._done.set()

    def watch(self, sock: socket.socket) -> None:
        """This is now the connection's; raises ConnectionError where it took too long to get."""
        self._sock = sock
        self._raise_if_slow(None)

    def _raise_if_slow(self, cause: Exception | None) -> None:
        if self._slow.is_set():
            raise ConnectionError(f"less than {_SLOWEST} bytes a second") from cause

    def _look(self) -> None:
        before = 0
        while not self._done.wait(_WINDOW):
            if self.received - before < _SLOWEST * _WINDOW:
                self._slow.set()
                with contextlib.suppress(OSError):
                    if self._sock is not None:
                        self._sock.shutdown(socket.SHUT_RDWR)
            before = self.received


class _Http(http.client.HTTPConnection):
    def __init__(self, *args: Any, pace: Pace, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pace = pace

    def connect(self) -> None:
        super().connect()
        self._pace.watch(self.sock)


class _Https(http.client.HTTPSConnection):
    def __init__(self, *args: Any, pace: Pace, context: ssl.SSLContext, **kwargs: Any) -> None:
        super().__init__(*args, context=context, **kwargs)
        self._pace, self._tls = pace, context

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        host = self._tunnel_host or self.host  # type: ignore[attr-defined]
        self.sock = self._tls.wrap_socket(
            self.sock, server_hostname=host, do_handshake_on_connect=False
        )
        self._pace.watch(self.sock)  # before the handshake, which may be slow as well
        self.sock.do_handshake()


class _HttpHandler(urllib.request.HTTPHandler):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def http_open(self, req):  # type: ignore[no-untyped-def]
        return self.do_open(_Http, req, pace=self._pace)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def https_open(self, req):  # type: ignore[no-untyped-def]
        context = ssl.create_default_context()
        return self.do_open(_Https, req, pace=self._pace, context=context)


class _Redirections(urllib.request.HTTPRedirectHandler):
    def __init__(self, check: Callable[[str], None]) -> None:
        self._check = check

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        try:
            self._check(newurl)
        except CorpusError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def opener(pace: Pace, check: Callable[[str], None]) -> urllib.request.OpenerDirector:
    """Opens http and https. check: raises `CorpusError` for an address not to be redirected to."""
    handlers = (_Redirections(check), _HttpHandler(pace), _HttpsHandler(pace))
    return urllib.request.build_opener(*handlers)
