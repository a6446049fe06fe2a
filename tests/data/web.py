"""A web server of the tests, on this machine only: files with ranges, bad manners on demand."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web:
    """What the server gives, and what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}  # by path
        self.failures: list[int] = []  # statuses of the next answers to GET
        self.redirect = ""  # where every request is sent instead
        self.whole = False  # answers a range with the whole file
        self.headers: dict[str, str] = {}  # of every answer
        self.asked: list[tuple[str, str, str]] = []  # method, path with query, range
        self.url = ""

    def answer(self, method: str, path: str, wanted: str) -> tuple[int, bytes, dict[str, str]]:
        """Give status, body and headers."""
        self.asked.append((method, path, wanted))
        data = self.files.get(path.partition("?")[0])
        if self.redirect:
            return 302, b"", {"Location": self.redirect}
        if method == "GET" and self.failures:
            return self.failures.pop(0), b"not now", {}
        if data is None:
            return 404, b"no such file", {}
        ends = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
        if ends is None or self.whole:
            return 200, data, {}
        first, last = int(ends[1]), int(ends[2])
        part = data[first : last + 1]
        about = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
        return 206, part, {"Content-Range": about}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    web: Web

    def handle_error(self, *_: object) -> None:  # a client that hangs up is no error here
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.reply(body=False)

    def do_GET(self) -> None:
        self.reply(body=True)

    def reply(self, body: bool) -> None:
        web, wanted = self.server.web, self.headers.get("Range", "")
        status, data, headers = web.answer(self.command, self.path, wanted)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers | web.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


@contextmanager
def serving() -> Iterator[Web]:
    """Serve until the block ends."""
    server = Server(("127.0.0.1", 0), Handler)
    server.web = Web()
    server.web.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
