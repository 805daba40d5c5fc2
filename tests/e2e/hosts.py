"""Three hosts in one: network namespaces on a bridge, each with a host name, processes and a mounted /proc of its own.

The addresses are those of the namespaces alone; nothing routes to or from them. The test itself steps into the
server's, so that what it starts and calls is there.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
NETWORK = "10.91.7"
SERVER = f"{NETWORK}.1"
BRIDGE = "lan0"


def missing() -> str:
    """Return why there can be no namespaces here; empty where there can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "needs root and iproute2"
    probe = f"hefjoin-probe-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"this machine allows no network namespaces: {done.stderr.strip()}"
    command = ["ip", "-n", probe, "link", "add", BRIDGE, "type", "bridge"]
    bridge = subprocess.run(command, capture_output=True, text=True, check=False)
    _ip("netns", "del", probe)
    return "" if bridge.returncode == 0 else f"this machine allows no bridges: {bridge.stderr.strip()}"


class Host:
    """One namespace with an address on the bridge."""

    def __init__(self, name: str, namespace: str, number: int) -> None:
        self.name, self.namespace, self.address = name, namespace, f"{NETWORK}.{number}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: list[str], folder: Path, environment: Mapping[str, str], log: Path) -> None:
        """Start a command on this host."""
        enter = ["nsenter", f"--net=/run/netns/{self.namespace}", "unshare", "--uts", "--pid", "--fork", "--mount-proc"]
        # The shell is the first process of its namespace: all of it ends with that one, and that one ignores signals.
        named = ["--kill-child", "sh", "-c", 'hostname "$0" && "$@"; exit $?', self.name, *command]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*enter, *named], cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL,
                stdout=output, stderr=output,
            )  # fmt: skip
        self._processes.append(process)

    def python(self, *arguments: str, folder: Path, environment: Mapping[str, str], log: Path) -> None:
        self.start([sys.executable, *arguments], folder, environment, log)

    def link(self, state: str) -> None:
        """Plug the host's cable in or out: `up`, `down`."""
        _ip("link", "set", self.name, state)

    def die(self) -> None:
        """Cut the cable and end all that runs here, at once."""
        self.link("down")
        self.end()

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()


@contextmanager
def network(*names: str) -> Iterator[list[Host]]:
    """Be on the server's host, `SERVER`, with other hosts of these names beside it."""
    mark = f"hefjoin-{os.getpid()}"
    with ExitStack() as stack:
        server = _namespace(f"{mark}-server", stack)
        hosts = [Host(name, _namespace(f"{mark}-{name}", stack), number) for number, name in enumerate(names, 2)]
        stack.enter_context(_inside(server))
        _ip("link", "set", "lo", "up")
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{SERVER}/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        for host in hosts:
            stack.callback(host.end)
            _ip("link", "add", host.name, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
            _ip("link", "set", host.name, "master", BRIDGE, "up")
            _ip("-n", host.namespace, "link", "set", "lo", "up")
            _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.namespace, "link", "set", "eth0", "up")
        yield hosts


def _namespace(name: str, stack: ExitStack) -> str:
    _ip("netns", "add", name)
    stack.callback(_ip, "netns", "del", name)
    return name


@contextmanager
def _inside(namespace: str) -> Iterator[None]:
    """Move this thread, and what it starts, into a namespace."""
    with Path("/proc/thread-self/ns/net").open("rb") as home:
        _enter(f"/run/netns/{namespace}")
        try:
            yield
        finally:
            _set(home.fileno())


def _enter(path: str) -> None:
    with Path(path).open("rb") as namespace:
        _set(namespace.fileno())


def _set(number: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(number, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
