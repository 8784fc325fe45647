"""Fixtures: an S3 server on loopback (moto), and a proxy in front of it that spoils downloads."""

import http.client
import logging
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

SECRET = "the-secret-that-nobody-may-see"


@dataclass
class Store:
    """A bucket on the server: a client with all rights, as those have who fill it."""

    endpoint: str
    client: Any
    bucket: str

    def url(self, key: str = "") -> str:
        return f"s3://{self.bucket}/{key}".rstrip("/")

    def put(self, key: str, content: bytes, **settings: Any) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content, **settings)

    def state(self) -> list[tuple[str, str, str, bool]]:
        """All versions of all objects, and what was deleted: what a change of any object would change."""
        answer = self.client.list_object_versions(Bucket=self.bucket)
        assert "DeleteMarkers" not in answer
        return sorted(
            (item["Key"], item["VersionId"], item["ETag"], item["IsLatest"]) for item in answer["Versions"]
        )


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Address of the server."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint, monkeypatch, tmp_path) -> Iterator[Store]:
    """An empty bucket, its versions kept, and credentials in the environment."""
    import boto3
    import s3fs

    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key-of-the-observatory")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()  # they keep credentials
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    bucket = f"raw-{abs(hash(tmp_path)):x}"
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    yield Store(s3_endpoint, client, bucket)
    s3fs.S3FileSystem.clear_instance_cache()


Spoil = Callable[[bytes], bytes]


@dataclass
class Proxy:
    """Passes requests on; the next downloads are spoiled, each by one of ``faults`` (None: by none).

    A fault gets the body and returns another one; with ``lies`` the length is announced as it then is, else as it was,
    and the connection ends early. ``parts``: sizes that HEAD tells of the parts of an object, [] for a store that knows
    no parts. ``archived``: downloads are answered as those of archived objects are. ``silent``: requests are not
    answered. ``before_download``: is called first. ``requests``: method and path of all of them.
    """

    endpoint: str
    address: str = ""
    faults: list[Spoil | None] = field(default_factory=list)
    lies: bool = False
    parts: list[int] | None = None
    archived: bool = False
    silent: bool = False
    before_download: Callable[[], None] | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def proxy(s3) -> Iterator[Proxy]:
    """A proxy in front of the server."""
    state = Proxy(s3.endpoint)
    target = urllib.parse.urlsplit(s3.endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _pass_on(self) -> None:
            state.requests.append((self.command, self.path))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            download = self.command == "GET" and "list-type" not in self.path
            if state.silent:
                self.close_connection = True
                return
            if download and state.before_download:
                state.before_download()
            connection = http.client.HTTPConnection(target.hostname, target.port, timeout=20)
            connection.request(self.command, self.path, body=body, headers=dict(self.headers.items()))
            answer = connection.getresponse()
            content = answer.read()
            headers = {key: value for key, value in answer.getheaders() if key.lower() != "transfer-encoding"}
            connection.close()
            status, sent = answer.status, content
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            if state.archived and download:
                status = 403
                sent = content = b"<Error><Code>InvalidObjectState</Code><Message>archived</Message></Error>"
            elif download and status in (200, 206) and state.faults:
                fault = state.faults.pop(0)
                sent = fault(content) if fault else content
            length = len(sent if state.lies else content)
            if state.parts == [] and "partNumber" in query:
                status = 501
            if self.command == "HEAD":
                length = int(headers.get("Content-Length", 0))
                if state.parts and "partNumber" in query:
                    length = state.parts[int(query["partNumber"][0]) - 1]
            self.send_response_only(status)
            for key, value in headers.items():
                if key.lower() not in {"content-length", "connection"}:
                    self.send_header(key, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(sent)
            if len(sent) != length and self.command != "HEAD":
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()
