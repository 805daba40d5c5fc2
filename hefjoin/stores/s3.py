"""The store in S3, or in any server that speaks it; what hefjoin did not write is read by `hefjoin.sources`.

The one rule: the only condition relied on is `If-None-Match: *` on PutObject, because servers disagree on all
others; a server that ignores even this one is refused at the first write. Endpoint, region, credentials and
number of attempts come from the usual AWS variables and profiles (`AWS_ENDPOINT_URL`, `AWS_PROFILE`, …).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

from hefjoin.artifacts import Ref
from hefjoin.errors import InputError
from hefjoin.stores import (
    OBJECTS,
    Leftover,
    Store,
    changed,
    object_name,
    os_errors,
    store_error,
)
from hefjoin.stores.s3_read import copy, parts

CONNECT_SECONDS = 10
ABORT_ATTEMPTS = 3
TRANSFER_THREADS = 4

_CREDENTIALS = (
    "credentials",
    "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or AWS_PROFILE.",
)
_PERMISSION = (
    "permission",
    "Allow this key on the bucket what docs/operations.md lists, first s3:GetObject, s3:PutObject and s3:ListBucket.",
)
_BUCKET = ("bucket", "Create the bucket, or correct its name in the URI.")
_FULL = ("full", "Free some space on the server, or choose another store.")
_UNSUPPORTED = (
    "unsupported",
    "Use a server that honours If-None-Match on PutObject, as AWS S3, SeaweedFS and Ceph do.",
)
_UNAVAILABLE = ("unavailable", "Try again; if it stays, check AWS_ENDPOINT_URL, the server and its free space.")
_SETTINGS = ("settings", "Check the URI, AWS_ENDPOINT_URL, AWS_REGION, AWS_CA_BUNDLE and the AWS profile.")
_CODES = {
    "NoSuchBucket": _BUCKET,
    "InvalidBucketName": _BUCKET,
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
    "RequestTimeTooSkewed": ("clock", "Set this machine's clock: it differs from the server's by minutes."),
    "AuthorizationHeaderMalformed": _SETTINGS,
    "PermanentRedirect": _SETTINGS,
    "AccessDenied": _PERMISSION,
    "AllAccessDisabled": _PERMISSION,
    "InvalidRange": ("changed", "It was written to while it was read. Try again when nothing writes to it."),
    "QuotaExceeded": _FULL,
    "NotImplemented": _UNSUPPORTED,
    "RequestTimeout": _UNAVAILABLE,
    "SlowDown": _UNAVAILABLE,
    "Throttling": _UNAVAILABLE,
    "ThrottlingException": _UNAVAILABLE,
    "ConditionalRequestConflict": _UNAVAILABLE,
}
_STATUSES = {403: _PERMISSION, 429: _UNAVAILABLE, 501: _UNSUPPORTED, 507: _FULL}


class S3Store(Store):
    """Artifacts and records below `s3://bucket/prefix`; holds one client and its connections.

    An object is hashed first and uploaded straight to its final key, which S3 shows only when it is whole.
    Its sha256 is in its metadata too. `.probe` below the prefix is what the server was probed with.
    """

    def __init__(self, uri: str) -> None:
        self._bucket, prefix = split_uri(uri)
        self._prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        self.uri = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        self._client = open_client(self.uri)
        self._lock = Lock()
        self._is_probed = False

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        with os_errors(doing, self.uri), s3_errors(doing, self.uri):
            yield

    def _is_intact(self, ref: Ref) -> bool:
        if self._size_bytes(ref) != ref.size_bytes:
            return False
        digest = hashlib.sha256()
        for part in parts(self._client, self._bucket, self._object_key(ref), ref.size_bytes):
            digest.update(part)
        return digest.hexdigest() == ref.sha256

    def _add(self, path: Path, ref: Ref, before: os.stat_result) -> None:
        self._probe()
        key = self._object_key(ref)
        metadata = {"Metadata": {"sha256": ref.sha256}}
        self._client.upload_file(str(path), self._bucket, key, ExtraArgs=metadata, Config=transfer_config())
        after = path.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            self._client.delete_object(Bucket=self._bucket, Key=key)
            raise changed(path, self.uri)

    def _fetch(self, ref: Ref, partial: Path) -> tuple[str, int] | None:
        size_bytes = self._size_bytes(ref)
        if size_bytes is None:
            return None
        sha256 = copy(self._client, self._bucket, self._object_key(ref), size_bytes, partial)
        return sha256, partial.stat().st_size

    def _size_bytes(self, ref: Ref) -> int | None:
        return _size_bytes(self._client, self._bucket, self._object_key(ref))

    def _create(self, name: str, body: bytes) -> bool:
        self._probe()
        return self._put_new(name, body)

    def _replace(self, name: str, body: bytes) -> None:
        self._probe()
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=body)

    def _read(self, name: str) -> bytes | None:
        body: bytes | None = None
        with _allowing("NoSuchKey"):
            body = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()
        return body

    def _files(self, folder: str) -> Iterator[tuple[str, int]]:
        for key, size_bytes in _objects(self._client, self._bucket, self._prefix + folder):
            yield key.removeprefix(self._prefix), size_bytes

    def _remove(self, name: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def _leftovers(self) -> Iterator[Leftover]:
        """List multipart uploads of artifacts: nothing else is uploaded in parts, and others may share the bucket."""
        pages = self._client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + OBJECTS):
            now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            for upload in page.get("Uploads", []):
                age_s = max(0.0, (now - upload["Initiated"]).total_seconds())
                size_bytes = self._uploaded_bytes(upload["Key"], upload["UploadId"])
                if size_bytes is not None:
                    name = upload["Key"].removeprefix(self._prefix)
                    yield Leftover(name, size_bytes, age_s, upload["UploadId"])

    def _uploaded_bytes(self, key: str, upload_id: str) -> int | None:
        """Return the size of an upload's parts so far, or None where it has ended meanwhile."""
        pages = self._client.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=key, UploadId=upload_id)
        size_bytes: int | None = None
        with _allowing("NoSuchUpload"):
            size_bytes = sum(part["Size"] for page in pages for part in page.get("Parts", []))
        return size_bytes

    def _remove_leftover(self, leftover: Leftover) -> None:
        """Abort an upload, again while any of it is left: a part that was under way may outlive the first time."""
        key = self._prefix + leftover.name
        for _ in range(ABORT_ATTEMPTS):
            with _allowing("NoSuchUpload"):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=leftover.upload_id)
            if self._uploaded_bytes(key, leftover.upload_id) is None:
                return

    def _object_key(self, ref: Ref) -> str:
        return self._prefix + object_name(ref.sha256, ref.media)

    def _put_new(self, name: str, body: bytes) -> bool:
        """Put a key that must not exist and say whether this call made it.

        When an answer is lost, botocore asks again and is refused by the very object that it made: so each
        call leaves a mark of its own in the metadata, and looks for it when a repeated request was refused.
        """
        from botocore.exceptions import ClientError

        target = {"Bucket": self._bucket, "Key": self._prefix + name}
        mark = uuid4().hex
        try:
            self._client.put_object(**target, Body=body, IfNoneMatch="*", Metadata={"writer": mark})
        except ClientError as error:
            answer = error.response["ResponseMetadata"]
            if answer["HTTPStatusCode"] != 412:
                raise
            if not answer.get("RetryAttempts"):
                return False
            return mark in self._client.head_object(**target)["Metadata"].values()
        return True

    def _probe(self) -> None:
        """Refuse a server that ignores `If-None-Match`: of two puts of one key the second must fail."""
        with self._lock:
            if self._is_probed:
                return
            if self._put_new(".probe", b"{}") and self._put_new(".probe", b"{}"):
                reason, next_step = _UNSUPPORTED
                message = (
                    f"the server of {self.uri} ignores If-None-Match: it let one key be created twice, "
                    f"so two builds could overwrite each other's records. {next_step}"
                )
                raise store_error(message, reason, self.uri)
            self._is_probed = True


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key, or prefix, of an S3 URI.

    >>> split_uri("s3://models/2024/resnet.onnx")
    ('models', '2024/resnet.onnx')
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme.lower() != "s3" or not bucket:
        raise InputError(f"{uri!r} names nothing in S3. Write `s3://bucket/key`.")
    return bucket, key.lstrip("/")


def open_client(uri: str) -> Any:
    """Return a client with connections of its own; digests are ours, so what a server says of them is not asked."""
    from boto3.session import Session
    from botocore.config import Config
    from botocore.session import Session as Core

    config = Config(
        retries={"mode": "standard"},
        connect_timeout=CONNECT_SECONDS,
        max_pool_connections=32,
        response_checksum_validation="when_required",
    )
    with s3_errors(f"open {uri}", uri):
        try:
            core = Core()
            core.register_component("data_loader", _service_models())
            return Session(botocore_session=core).client("s3", config=config)
        except ValueError as error:
            reason, next_step = _SETTINGS
            raise store_error(f"cannot open {uri}: {error}. {next_step}", reason, uri) from error


@cache
def _service_models() -> Any:
    """Return what reads botocore's description of S3, once for all clients: it is most of what opening one takes."""
    from botocore.session import Session as Core

    return Core().get_component("data_loader")


def transfer_config() -> Any:
    """Return how a file is uploaded: in parts, from several threads."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(
        max_concurrency=TRANSFER_THREADS,
        preferred_transfer_client="classic",
    )


def _size_bytes(client: Any, bucket: str, key: str) -> int | None:
    answer = head(client, bucket, key)
    return None if answer is None else int(answer["ContentLength"])


def head(client: Any, bucket: str, key: str) -> dict[str, Any] | None:
    """Return what the server says of an object, or None where it is missing.

    The answer to HEAD has no body, so a refusal does not say why: then the key is listed, which does.
    """
    from botocore.exceptions import ClientError

    try:
        answer: dict[str, Any] = client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise
    return answer


def _objects(client: Any, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Yield key and size of all objects whose key begins with `prefix`."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            yield entry["Key"], entry["Size"]


@contextmanager
def _allowing(code: str) -> Iterator[None]:
    """Pass over an answer with this S3 error code."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] != code:
            raise


@contextmanager
def s3_errors(doing: str, uri: str) -> Iterator[None]:
    """Turn the errors of botocore and boto3 into a `StoreError` that begins "cannot <doing>"."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error) as error:
        cause = _cause(error)
        reason, next_step = _fault(cause)
        raise store_error(f"cannot {doing}: {cause}. {next_step}", reason, uri) from error


def _cause(error: Exception) -> Exception:
    """Return what lies under the two errors in which s3transfer and boto3 wrap another."""
    from boto3.exceptions import RetriesExceededError, S3UploadFailedError

    if isinstance(error, RetriesExceededError):
        return error.last_exception  # type: ignore[no-any-return]
    if isinstance(error, S3UploadFailedError) and isinstance(error.__context__, Exception):
        return error.__context__
    return error


def _fault(error: Exception) -> tuple[str, str]:
    from botocore import exceptions as botocore

    if isinstance(error, botocore.ClientError):
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        unnamed = _UNAVAILABLE if status >= 500 else ("refused", "Check the store's URI and the server's log.")
        return _CODES.get(code) or _STATUSES.get(status) or unnamed
    credentials = (
        *(botocore.NoCredentialsError, botocore.PartialCredentialsError, botocore.CredentialRetrievalError),
        *(botocore.ProfileNotFound, botocore.SSOError),
    )
    if isinstance(error, credentials):
        return _CREDENTIALS
    network = (botocore.HTTPClientError, botocore.ConnectionError, botocore.IncompleteReadError)
    if isinstance(error, network) and not isinstance(error, botocore.SSLError):
        return _UNAVAILABLE
    # What RetriesExceededError carried and is none of botocore's: the socket's own error.
    return _SETTINGS if isinstance(error, botocore.BotoCoreError) else _UNAVAILABLE
