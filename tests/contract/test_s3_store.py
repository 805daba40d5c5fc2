"""The contract on S3, and what only a server can do to a store.

S3 is moto's real HTTP server on loopback. It forgives much, so a server that ignores If-None-Match, loses an
answer or refuses a request is played by `Front`: a real HTTP server before moto, which meddles with the traffic.
"""

import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from threading import Thread
from typing import Any, ClassVar
from urllib.request import Request, urlopen

import pytest
from store_contract import StoreContract, refusal

from hefjoin.artifacts import Ref
from hefjoin.stores import Leftover, Store, Stored, open_store, s3_read
from tests.moto_server import client_of, moto_server

REFUSALS = [
    (503, "SlowDown", "unavailable"),
    (500, "InternalError", "unavailable"),
    (403, "RequestTimeTooSkewed", "clock"),
    (403, "SignatureDoesNotMatch", "credentials"),
    (400, "ExpiredToken", "credentials"),
    (403, "AccessDenied", "permission"),
    (403, "SomethingNew", "permission"),
    (507, "InsufficientStorage", "full"),
    (501, "NotImplemented", "unsupported"),
    (400, "SomethingNew", "refused"),
]
"""HTTP status, S3 error code, the reason that it must become."""


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The address of moto's server."""
    with moto_server() as address:
        yield address


@pytest.fixture(scope="module")
def client(moto: str) -> Iterator[Any]:
    """A boto3 client of moto, to which the environment points for the whole module."""
    with client_of(moto) as client:
        yield client


@pytest.fixture
def bucket(moto: str, client: Any) -> Any:
    """An empty bucket `models`, alone on moto: the client that sees what lies in it."""
    tell(f"{moto}/moto-api/reset")
    client.create_bucket(Bucket="models")
    return client


def tell(address: str, body: bytes = b"") -> None:
    """POST to moto's own controls."""
    urlopen(Request(address, body, {"Content-Type": "text/plain"})).close()


@pytest.fixture(scope="module")
def opened_store(client: Any) -> Store:
    """A store for all tests that need no other, since opening takes longer than they do; `bucket` empties it."""
    return open_store("s3://models/some/prefix/")


class TestS3Store(StoreContract):
    @pytest.fixture
    def store(self, bucket: Any, opened_store: Store) -> Store:
        self.client = bucket
        return opened_store

    def stored(self, store: Store) -> set[str]:
        listed = self.client.list_objects_v2(Bucket="models").get("Contents", [])
        return {entry["Key"].removeprefix("some/prefix/") for entry in listed}

    def bytes_of(self, store: Store, name: str) -> bytes:
        body: bytes = self.client.get_object(Bucket="models", Key=f"some/prefix/{name}")["Body"].read()
        return body

    def overwrite(self, store: Store, name: str, body: bytes) -> None:
        self.client.put_object(Bucket="models", Key=f"some/prefix/{name}", Body=body)

    def remove(self, store: Store, name: str) -> None:
        self.client.delete_object(Bucket="models", Key=f"some/prefix/{name}")

    def leave(self, store: Store, body: bytes) -> str:
        name = f"objects/sha256/aa/{'a' * 64}.har"
        begin_upload(self.client, f"some/prefix/{name}", body)
        return name

    def test_uploads_of_others_in_the_bucket_are_left_alone(self, store: Store) -> None:
        for key in ("some/prefix/other.har", "objects/sha256/aa/x.har", "some/prefix/more/objects/sha256/aa/x.har"):
            begin_upload(self.client, key, b"theirs")
        assert store.leftovers() == []

    def test_the_digest_is_in_the_metadata(self, store: Store, model: Path, bucket: Any) -> None:
        ref = store.put(model, "onnx")
        assert bucket.head_object(**key_of(ref))["Metadata"] == {"sha256": ref.sha256}

    def test_without_a_prefix_the_bucket_is_the_store(self, bucket: Any, model: Path, tmp_path: Path) -> None:
        store = open_store("s3://models")
        ref = store.put(model, "onnx")
        assert ref.uri.startswith("s3://models/objects/sha256/")
        assert store.get(ref, tmp_path / "copy").read_bytes() == model.read_bytes()
        assert store.create_record("names/one", {})
        assert store.list_records("names") == ["names/one"]

    def test_a_missing_bucket_is_named_by_every_call(self, bucket: Any, model: Path, tmp_path: Path) -> None:
        store = open_store("s3://nowhere/prefix")
        ref = Ref(uri="", sha256="0" * 64, size_bytes=1, media="onnx")
        calls: list[Callable[[], object]] = [
            lambda: store.put(model, "onnx"),
            lambda: store.get(ref, tmp_path / "copy"),
            lambda: store.has(ref),
            lambda: store.create_record("a", {}),
            lambda: store.replace_record("a", {}),
            lambda: store.read_record("a"),
            lambda: store.list_records("a"),
            lambda: store.remove_record("a"),
            lambda: list(store.objects()),
            lambda: store.remove_object(Stored("", sha256="0" * 64, media="onnx", size_bytes=1)),
            lambda: store.leftovers(),
            lambda: store.remove_leftover(Leftover("objects/x", size_bytes=1, age_s=0, upload_id="1")),
        ]
        for call in calls:
            error = refusal(call)
            assert (error.attributes["reason"], error.is_transient) == ("bucket", False)
            assert "s3://nowhere/prefix" in error.message
            assert "Create the bucket" in error.message

    def test_wrong_credentials_are_named(self, moto: str, store: Store, model: Path) -> None:
        """moto asks for credentials from the request on which it is told to."""
        set_auth = f"{moto}/moto-api/reset-auth"
        tell(set_auth, b"0")
        try:
            for call in (lambda: store.put(model, "onnx"), lambda: store.create_record("a", {})):
                error = refusal(call)
                assert (error.attributes["reason"], error.is_transient) == ("credentials", False)
                assert "AWS_ACCESS_KEY_ID" in error.message
        finally:
            tell(set_auth, b"inf")

    def test_no_credentials_are_named(self, bucket: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        error = refusal(lambda: open_store("s3://models/x").put(model, "onnx"))
        assert (error.attributes["reason"], error.is_transient) == ("credentials", False)

    @pytest.mark.parametrize(
        ("variable", "value", "reason"),
        [("AWS_PROFILE", "nobody", "credentials"), ("AWS_ENDPOINT_URL", "not a url", "settings")],
    )
    def test_unusable_settings_are_named_on_opening(
        self, bucket: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
    ) -> None:
        monkeypatch.setenv(variable, value)
        error = refusal(lambda: open_store("s3://models/x"))
        assert (error.attributes["reason"], error.is_transient) == (reason, False)
        assert value in error.message

    def test_an_endpoint_out_of_reach_is_worth_another_try(
        self, bucket: Any, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        error = refusal(lambda: open_store("s3://models/x").put(model, "onnx"))
        assert (error.attributes["reason"], error.is_transient) == ("unavailable", True)
        assert "http://127.0.0.1:1" in error.message


def key_of(ref: Ref) -> dict[str, str]:
    return {"Bucket": "models", "Key": f"some/prefix/objects/sha256/{ref.sha256[:2]}/{ref.sha256}.{ref.media}"}


def begin_upload(client: Any, key: str, body: bytes) -> None:
    """Begin a multipart upload, upload one part and leave it at that."""
    target = {"Bucket": "models", "Key": key}
    upload_id = client.create_multipart_upload(**target)["UploadId"]
    client.upload_part(**target, UploadId=upload_id, PartNumber=1, Body=body)


class Front(BaseHTTPRequestHandler):
    """Forwards each request to `upstream`, but for what its class attributes tell it to do."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    upstream: ClassVar[str]
    is_blind: ClassVar[bool] = False
    """Drop If-None-Match, as a server that does not know it."""
    lost_answers: ClassVar[int] = 0
    """How many of the next PUTs are carried out and then not answered."""
    broken_bodies: ClassVar[int] = 0
    """How many of the next answers to GET end after half of their body."""
    gets: ClassVar[int] = 0
    """How many GETs were asked."""
    refusals: ClassVar[dict[str, tuple[int, str]]] = {}
    """For an HTTP method the status and the S3 error code with which it is refused."""
    mishaps: ClassVar[list[tuple[int, str] | None]] = []
    """How the next requests end, instead of being carried out: refused so, or, where None, with a reset connection."""
    clock: ClassVar[float | None] = None
    """What the server takes for the time, in seconds since 1970."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(timestamp or self.clock)

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        type(self).gets += self.command == "GET"
        if self.command in self.refusals:
            status, code = self.refusals[self.command]
            return self.answer(status, {}, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())
        if self.mishaps:
            if mishap := self.mishaps.pop(0):
                return self.answer(mishap[0], {}, f"<Error><Code>{mishap[1]}</Code></Error>".encode())
            return self.reset()
        if self.is_blind:
            del self.headers["If-None-Match"]
        upstream = HTTPConnection(self.upstream)
        upstream.request(self.command, self.path, body, dict(self.headers))
        response = upstream.getresponse()
        content = response.read()
        upstream.close()
        if self.command == "PUT" and type(self).lost_answers:
            type(self).lost_answers -= 1
            self.close_connection = True
            return None
        return self.answer(response.status, dict(response.getheaders()), content)

    def reset(self) -> None:
        """End the connection with RST, as a server that dies."""
        self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        length = headers.get("Content-Length", str(len(content))) if self.command == "HEAD" else str(len(content))
        skipped = {"content-length", "connection", "transfer-encoding", "date", "server"}
        for name, value in headers.items():
            if name.lower() not in skipped:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command == "GET" and type(self).broken_bodies:
            type(self).broken_bodies -= 1
            self.close_connection = True
            content = content[: len(content) // 2]
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = forward

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def front(bucket: Any, moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Front]]:
    """A server before moto, to which the environment points; its class attributes say how it meddles."""

    class Meddling(Front):
        upstream = moto.removeprefix("http://")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Meddling)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield Meddling
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_that_ignores_if_none_match_is_refused_before_anything_is_written(
    front: type[Front], bucket: Any, tmp_path: Path
) -> None:
    (tmp_path / "model").touch()
    front.is_blind = True
    store = open_store("s3://models/x")
    for call in (
        lambda: store.create_record("a", {}),
        lambda: store.replace_record("a", {}),
        lambda: store.put(tmp_path / "model", "onnx"),
    ):
        error = refusal(call)
        assert (error.attributes["reason"], error.is_transient) == ("unsupported", False)
        assert "If-None-Match" in error.message
    assert [entry["Key"] for entry in bucket.list_objects_v2(Bucket="models")["Contents"]] == ["x/.probe"]
    front.is_blind = False
    assert store.create_record("a", {})


def test_who_lost_the_answer_still_knows_to_have_won(front: type[Front], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    store = open_store("s3://models/x")
    assert store.create_record("before", {})
    front.lost_answers = 1
    assert store.create_record("a", {"writer": 1})
    front.lost_answers = 1
    assert not store.create_record("a", {"writer": 2})
    assert store.read_record("a") == {"writer": 1}


def test_the_age_of_an_upload_goes_by_the_server_s_clock(front: type[Front], bucket: Any) -> None:
    """moto says of every upload that it was begun at 20:48:33 on 10 November 2010."""
    begin_upload(bucket, f"x/objects/sha256/aa/{'a' * 64}.har", b"cut")
    front.clock = datetime(2010, 11, 10, 20, 50, tzinfo=UTC).timestamp()
    (leftover,) = open_store("s3://models/x").leftovers()
    assert leftover.age_s == 87


def test_a_refusal_says_why_and_whether_to_try_again(front: type[Front], tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    store = open_store("s3://models/x")
    for status, code, reason in REFUSALS:
        front.refusals = dict.fromkeys(("GET", "HEAD", "PUT"), (status, code))
        for call in (
            lambda: store.put(tmp_path / "model", "onnx"),
            lambda: store.create_record("a", {}),
            lambda: store.read_record("a"),
        ):
            error = refusal(call)
            assert (error.attributes["reason"], error.is_transient) == (reason, reason == "unavailable")
            assert code in error.message
            assert "s3://models/x" in error.message


def test_a_refused_upload_or_download_says_why(front: type[Front], tmp_path: Path) -> None:
    """boto3 wraps what goes wrong while it transfers a file."""
    (tmp_path / "model").write_bytes(b"model")
    store = open_store("s3://models/x")
    assert store.create_record("a", {})
    front.refusals = {"PUT": (507, "InsufficientStorage")}
    error = refusal(lambda: store.put(tmp_path / "model", "onnx"))
    assert (error.attributes["reason"], error.is_transient) == ("full", False)
    front.refusals = {}
    ref = store.put(tmp_path / "model", "onnx")
    front.refusals = {"GET": (403, "AccessDenied")}
    error = refusal(lambda: store.get(ref, tmp_path / "out" / "copy"))
    assert (error.attributes["reason"], error.is_transient) == ("permission", False)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_body_that_breaks_off_is_asked_for_again(front: type[Front], tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"model")
    store = open_store("s3://models/x")
    ref = store.put(tmp_path / "model", "onnx")
    front.broken_bodies = 2
    assert store.get(ref, tmp_path / "copy").read_bytes() == b"model"
    front.broken_bodies = 2
    assert store.is_intact(ref)
    front.broken_bodies = 100
    error = refusal(lambda: store.get(ref, tmp_path / "copy"))
    assert (error.attributes["reason"], error.is_transient) == ("unavailable", True)
    assert front.broken_bodies == 100 - s3_read.ATTEMPTS


def test_a_refusal_is_asked_once(front: type[Front], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    store = open_store("s3://models/x")
    for answer, asked in (((403, "AccessDenied"), 1), ((400, "ExpiredToken"), 1), ((503, "SlowDown"), 3)):
        front.refusals, front.gets = {"GET": answer}, 0
        refusal(lambda: store.read_record("a"))
        assert front.gets == asked


def test_what_may_pass_is_asked_again_until_it_does(
    front: type[Front], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    (tmp_path / "model").write_bytes(b"model")
    store = open_store("s3://models/x")
    for number, mishap in enumerate([(503, "ServiceUnavailable"), (503, "SlowDown"), (500, "InternalError"), None]):
        calls: list[Callable[[], object]] = [
            lambda number=number: store.create_record(f"a/{number}", {"number": number}),  # type: ignore[misc]
            lambda number=number: store.read_record(f"a/{number}") == {"number": number},  # type: ignore[misc]
            lambda: store.is_intact(store.put(tmp_path / "model", "onnx")),
            lambda: store.get(store.put(tmp_path / "model", "onnx"), tmp_path / "copy").read_bytes() == b"model",
        ]
        for call in calls:
            front.mishaps = [mishap, mishap]
            assert call()
            assert front.mishaps == []
