"""Sources as an S3 server knows them: listed, looked up, downloaded, put there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from hefjoin.artifacts import CHUNK_BYTES
from hefjoin.stores import changed, missing, os_errors, store_error
from hefjoin.stores.s3 import head, open_client, s3_errors, split_uri, transfer_config
from hefjoin.stores.s3_read import copy

IN_PARTS_BYTES = 16 * CHUNK_BYTES
"""An object from this size on is downloaded in parallel parts."""


SHA256 = "sha256"
"""What the metadata of an object that was put here call its digest."""


class Version(NamedTuple):
    """An object as the server describes it; a write changes `etag` or `modified_s`."""

    bucket: str
    key: str
    etag: str
    size_bytes: int
    modified_s: int
    """Whole seconds since 1970: HEAD tells no more."""

    @property
    def uri(self) -> str:
        """Its address, for people."""
        return f"s3://{self.bucket}/{self.key}"


class Server:
    """A client of the server that the AWS variables name; safe for threads."""

    def __init__(self, uri: str) -> None:
        """Open a client; `uri` is what a message names."""
        self._client = open_client(uri)
        self.endpoint: str = self._client.meta.endpoint_url

    def listed(self, prefix_uri: str, *, is_deep: bool = True) -> Iterator[Version]:
        """Yield all objects whose key begins with the prefix, without folder marks (`…/`), in the order of keys.

        Args:
            prefix_uri: The prefix.
            is_deep: Also those with a further slash in the rest of their key.

        Raises:
            StoreError: The bucket is missing, not permitted or out of reach.
        """
        bucket, prefix = split_uri(prefix_uri)
        level = {} if is_deep else {"Delimiter": "/"}
        with s3_errors(f"list {prefix_uri}", prefix_uri):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **level):
                for entry in page.get("Contents", []):
                    if not entry["Key"].endswith("/"):
                        yield _version(bucket, entry["Key"], entry, entry["Size"])

    def version(self, uri: str) -> Version | None:
        """Return what lies at `uri`, or None.

        Raises:
            StoreError: The bucket is missing, not permitted or out of reach.
        """
        bucket, key = split_uri(uri)
        with s3_errors(f"look up {uri}", uri):
            answer = head(self._client, bucket, key)
        return None if answer is None else _version(bucket, key, answer, answer["ContentLength"])

    def text(self, uri: str) -> str | None:
        """Return the text that lies at `uri`, as UTF-8, or None.

        Raises:
            StoreError: It cannot be read.
            UnicodeDecodeError: It is no text.
        """
        bucket, key = split_uri(uri)
        with s3_errors(f"read {uri}", uri):
            answer = self._object(bucket, key)
            body: bytes = answer["Body"].read() if answer else b""
        return body.decode("utf-8") if answer else None

    def upload(self, path: Path, uri: str, sha256: str) -> bool:
        """Put a file at `uri`, its digest beside its bytes; False where an upload of these bytes is there.

        Raises:
            StoreError: It cannot be written; or the file changed meanwhile, and is to be put again.
        """
        bucket, key = split_uri(uri)
        doing = f"put {path} at {uri}"
        with os_errors(doing, uri), s3_errors(doing, uri):
            before = path.stat()
            there = head(self._client, bucket, key)
            if there and (there["ContentLength"], there["Metadata"].get(SHA256)) == (before.st_size, sha256):
                return False
            extra = {"Metadata": {SHA256: sha256}}
            self._client.upload_file(str(path), bucket, key, ExtraArgs=extra, Config=transfer_config())
            after = path.stat()
            if (after.st_ino, after.st_size, after.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
                raise changed(path, uri)
        return True

    def download(self, version: Version, path: Path) -> str:
        """Write the object to a file and return its sha256.

        Raises:
            StoreError: It is missing, changed since it was listed, or cannot be read; or the file cannot be written.
        """
        uri = version.uri
        doing = f"download {uri} ({version.size_bytes:,} bytes) to {path}"
        with os_errors(doing, uri), s3_errors(doing, uri):
            if version.size_bytes >= IN_PARTS_BYTES:
                sha256 = copy(self._client, version.bucket, version.key, version.size_bytes, path)
                answer = head(self._client, version.bucket, version.key)
            else:
                answer, sha256 = self._read(version, path)
            if answer is None:
                raise missing(uri)
        found = _version(version.bucket, version.key, answer, answer["ContentLength"])
        if found != version:
            message = f"{uri} changed while it was being downloaded. Build again when nothing writes to it."
            raise store_error(message, "changed", uri)
        return sha256

    def _read(self, version: Version, path: Path) -> tuple[dict[str, Any] | None, str]:
        answer = self._object(version.bucket, version.key)
        digest = hashlib.sha256()
        if answer is not None:
            with path.open("wb") as stream:
                for chunk in answer["Body"].iter_chunks(CHUNK_BYTES):
                    digest.update(chunk)
                    stream.write(chunk)
        return answer, digest.hexdigest()

    def _object(self, bucket: str, key: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        try:
            answer: dict[str, Any] = self._client.get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        return answer


def _version(bucket: str, key: str, answer: dict[str, Any], size_bytes: int) -> Version:
    modified: datetime = answer["LastModified"]
    return Version(bucket, key, answer["ETag"], size_bytes, int(modified.timestamp()))
