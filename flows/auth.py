"""The auth string by which a Prefect server and its clients know each other, kept in a file of this user.

The rules: what the environment says goes before the file; the string is never an argument, never printed, never logged;
a file that others may read is refused.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from hefjoin.errors import ToolchainError

CLIENT, SERVER = "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"
"""Environment variables that Prefect reads, as a client and as a server."""
USER = "hefjoin"


def auth_file() -> Path:
    """Return where the auth string is kept: below `XDG_CONFIG_HOME`, else below `~/.config`."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "hefjoin" / "auth"


def find_auth_string() -> str | None:
    """Return the auth string of the environment, else that of the file; None where there is neither.

    Raises:
        ToolchainError: Others than its owner may read the file, or it is empty.
    """
    if given := os.environ.get(CLIENT) or os.environ.get(SERVER):
        return given
    path = auth_file()
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ToolchainError(f"{path} cannot be read: {error.strerror}", log_tail="") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ToolchainError(
            f"{path} holds a password and has mode {stat.S_IMODE(mode):04o}, so that others may read it; make a "
            f"new one (`rm {path}`, start the server again), or `chmod 600 {path}` where nobody did",
            log_tail="",
        )
    if ":" not in text:
        raise ToolchainError(f"{path} holds no auth string; it is one line, user:password", log_tail="")
    return text


def make_auth_string() -> str:
    """Make an auth string and keep it in the file, which nobody but this user may read.

    Raises:
        ToolchainError: The file is there already, or cannot be written.
    """
    path, made = auth_file(), f"{USER}:{secrets.token_urlsafe(32)}"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ToolchainError(f"{path} cannot be written: {error.strerror}; set {CLIENT}", log_tail="") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{made}\n")
    return made
