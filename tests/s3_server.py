"""A real S3 server on loopback: SeaweedFS, with credentials, its files in a folder, killed at will.

It comes with the extra `e2e`. Every port it opens is its own, and it dies with the process that started it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

START_SECONDS = 90.0
"""After a kill it waits for the master that it was itself: 17 s on a quiet machine."""
TAIL_LINES = 15
PORTS = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
    *("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc"),
)
SETTINGS = (
    *("-s3", "-filer", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.port.iceberg=0", "-s3.port.lance=0"),
    *("-volume.max=100", "-master.volumeSizeLimitMB=1024", "-s3.autoCreateBucket=false", "-master.telemetry=false"),
)
BUCKET = "models"
OWNER, READER = ("owner", "owner-secret"), ("reader", "reader-secret")
"""Access key and secret of who may do all, and of who may read and list only."""
IDENTITIES = {
    "identities": [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": actions}
        for (name, secret), actions in (
            (OWNER, ["Admin", "Read", "Write", "List", "Tagging"]),
            (READER, ["Read", "List"]),
        )
    ]
}


class S3Server:
    """`weed server` with an empty bucket `models`; a context in which it serves."""

    def __init__(self, folder: Path, settings: Sequence[str] = (), run_as: Sequence[str] = ()) -> None:
        """Choose its ports; nothing is started yet.

        Args:
            folder: An empty or new folder for its data, settings and log.
            settings: More arguments of `weed server`.
            run_as: A command that runs the command after it as itself, as `command_on_small_disk` returns.
        """
        self.folder = folder
        self.data = folder / "data"
        self._ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
        self.endpoint = f"http://127.0.0.1:{self._ports['s3.port']}"
        self._log = folder / "weed.log"
        self._command = [
            *(*run_as, "setpriv", "--pdeathsig", "KILL", str(Path(sys.executable).with_name("weed")), "server"),
            *(*SETTINGS, f"-dir={self.data}", f"-s3.config={folder / 's3.json'}"),
            *(f"-{name}={port}" for name, port in self._ports.items()),
            *settings,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> S3Server:
        self.data.mkdir(parents=True, exist_ok=True)
        (self.folder / "s3.json").write_text(json.dumps(IDENTITIES), encoding="utf-8")
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, or start it again on what it holds, and return when it stores and answers.

        Raises:
            RuntimeError: It ended, or did not serve in time; with the end of its log.
        """
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it and do not wait."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self.folder, env={**os.environ, "TMPDIR": str(self.folder)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def wait(self) -> None:
        """Return when it stores and answers."""
        assert self._process is not None
        end = time.monotonic() + START_SECONDS
        last: Exception | None = None
        client = self.client()
        try:
            while time.monotonic() < end and self._process.poll() is None:
                if (last := _try_to_serve(client)) is None:
                    return
                time.sleep(0.1)
        finally:
            client.close()
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        raise RuntimeError(f"weed does not serve (exit code {self._process.poll()}, {last}):\n{tail}")

    def kill(self) -> None:
        """Kill it with SIGKILL, if it runs, and remove its sockets, which it puts into /tmp whatever it is told."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for port in self._ports.values():
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink(missing_ok=True)

    def environment(self, identity: tuple[str, str] = OWNER) -> dict[str, str]:
        """Return the variables by which boto3 finds the server and nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": identity[0],
            "AWS_SECRET_ACCESS_KEY": identity[1],
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(self, **settings: Any) -> Any:
        """Return a boto3 client of the owner, which does not try again unless told to."""
        from boto3.session import Session
        from botocore.config import Config

        session = Session(aws_access_key_id=OWNER[0], aws_secret_access_key=OWNER[1], region_name="us-east-1")
        config = Config(**{"retries": {"total_max_attempts": 1}, "connect_timeout": 5, "read_timeout": 20, **settings})
        return session.client("s3", endpoint_url=self.endpoint, config=config)


def without_aws(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the variables that AWS reads."""
    return {name: value for name, value in environment.items() if not name.startswith("AWS_")}


def _try_to_serve(client: Any) -> Exception | None:
    """Put, get and delete an object; returns what went wrong."""
    from botocore.exceptions import BotoCoreError, ClientError

    target = {"Bucket": BUCKET, "Key": "is-it-there"}
    try:
        if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=BUCKET)
        client.put_object(**target, Body=b"yes")
        client.get_object(**target)["Body"].read()
        client.delete_object(**target)
    except (BotoCoreError, ClientError) as error:
        return error
    return None


def _free_ports(count: int) -> list[int]:
    """Return ports of loopback that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()
