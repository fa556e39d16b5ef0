"""A fake HTTP server for Secrets Manager, Parameter Store and the container credentials endpoint."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-one", "AWS_REGION": "eu-west-1"}
ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:team/db-AbCdEf"


class PlayedAws:
    """A fake of both services and of container credentials.

    `secrets` and `parameters` are its content, `refusals` the next answers, and `asked` the requests that it received.
    """

    def __init__(self):
        self.secrets: dict[str, str] = {}
        self.parameters: dict[str, str] = {}
        self.refusals: list[tuple[int, dict]] = []
        self.asked: list[SimpleNamespace] = []
        self.url = ""

    def answer(self, handler, body):
        target = handler.headers.get("X-Amz-Target")
        self.asked.append(SimpleNamespace(target=target, headers=handler.headers, body=body, path=handler.path))
        if self.refusals:
            return self.refusals.pop(0)
        if target is None:
            return 200, {"AccessKeyId": "ASIAROLE", "SecretAccessKey": "of-the-role", "Token": "a-token"}
        wanted = json.loads(body)
        if target == "AmazonSSM.GetParameter":
            assert wanted["WithDecryption"] is True
            value = self.parameters.get(wanted["Name"])
            return (200, {"Parameter": {"Value": value}}) if value else (400, {"__type": "ParameterNotFound"})
        value = self.secrets.get(wanted["SecretId"])
        kind = "com.amazonaws.secretsmanager#ResourceNotFoundException"
        return (200, {"SecretString": value}) if value else (400, {"__type": kind})

    @contextmanager
    def served(self):
        played = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.do_POST()

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, said = played.answer(self, body)
                content = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            self.url = f"http://127.0.0.1:{server.server_port}"
            yield self
            server.shutdown()
            thread.join()


def variables(aws, references, **more):
    """Return the environment variables of a job with secrets."""
    return {**KEYS, "AWS_ENDPOINT_URL": aws.url, "SSM_SECRETS": json.dumps(references), **more}
