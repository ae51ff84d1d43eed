"""A real HTTP server on loopback that serves archives, well or badly."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

Route = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ArchiveServer

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        route = self.server.routes.get(self.path)
        if route is None:
            self.answer(404, b"no such archive")
        else:
            route(self)

    def answer(self, status: int, body: bytes, announced: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        self.end_headers()
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class ArchiveServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes: dict[str, Route] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay quiet when a client hangs up: that is what some tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.requests]


@contextmanager
def running() -> Iterator[ArchiveServer]:
    server = ArchiveServer()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def serve(data: bytes, tag: str = '"v1"', cuts: tuple[int, ...] = (), pause_s: float = 0) -> Route:
    """The file, with ranges. Each of `cuts` breaks one answer off after so many bytes; `pause_s` before each 64 KiB."""
    left = list(cuts)

    def route(handler: Handler) -> None:
        start = 0
        wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if wanted and handler.headers.get("If-Range", tag) == tag:
            start = int(wanted[1])
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            handler.send_response(200)
        if tag:
            handler.send_header("ETag", tag)
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        body = data[start:]
        if left:
            body = body[: left.pop(0)]
            handler.close_connection = True
        try:
            for at in range(0, len(body), 1 << 16):
                time.sleep(pause_s)
                handler.wfile.write(body[at : at + (1 << 16)])
                handler.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True

    return route


def redirect(to: str) -> Route:
    return lambda handler: handler.answer(302, b"", Location=to)


def in_turn(*routes: Route) -> Route:
    """One route after the other, then the last one for good."""
    left = list(routes)
    return lambda handler: (left.pop(0) if len(left) > 1 else left[0])(handler)
