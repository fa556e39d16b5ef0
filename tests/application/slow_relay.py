"""A relay before an AWS endpoint that delays the response to a create, as a slow network does."""

from __future__ import annotations

import http.client
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}


class SlowRelay:
    """Forwards all requests and responses, but holds the response to `CreateTrainingJob` until `release`.

    Args:
        endpoint: The URL to which requests are forwarded.
    """

    def __init__(self, endpoint: str) -> None:
        self.held, self._released = threading.Event(), threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(urlsplit(endpoint).netloc))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """The URL of the relay."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def release(self) -> None:
        """Let the responses to creates through."""
        self._released.set()

    def close(self) -> None:
        """End the relay."""
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _hold(self, target: str) -> None:
        """Hold the response to a create. The job exists now, but the client does not know it."""
        if target == "SageMaker.CreateTrainingJob":
            self.held.set()
            self._released.wait()

    def _handler(self, address: str) -> type[BaseHTTPRequestHandler]:
        hold = self._hold

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _relay(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                onward = http.client.HTTPConnection(address)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
                onward.request(self.command, self.path, body, headers)
                answer = onward.getresponse()
                content = answer.read()
                onward.close()
                hold(self.headers.get("X-Amz-Target", ""))
                with suppress(BrokenPipeError, ConnectionResetError):  # the client has closed its connection
                    self._answer(answer, content)

            def _answer(self, answer: http.client.HTTPResponse, content: bytes) -> None:
                self.send_response_only(answer.status, answer.reason)
                for name, value in answer.getheaders():
                    if name.lower() not in _HOP_BY_HOP and name.lower() != "content-length":
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
                self.send_header("Content-Length", length or "0")
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _relay  # noqa: N815 - names of the base class

            def log_message(self, *arguments: object) -> None:
                """Log nothing."""

        return Handler
