"""The address of a local server: from its own log line, checked against what was asked for and who listens there.

The log also holds text of the model's file, which may look like any line. So a line counts only as a whole, and with
the host that was asked for. Where the server chose the port itself, the process that listens there must be ours, as
far as the system says so (`/proc` on Linux).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from .files import LocalServerError

# `0.01.376.396 I srv  llama_server: listening on http://127.0.0.1:40663`. Names from a file stand in quotes.
_LISTENING: Final = re.compile(
    rb"^[^'\"\n]{0,80}\blistening on (https?://[^\s\"']+|unix://[^\n\"']+?)(?: - starting the main loop)?\r?\n",
    re.MULTILINE,
)
_LISTEN_STATE: Final = "0A"
_MOST_DIGITS: Final = 5


def address_in(log: bytes, host: str, port: int, pid: int | None) -> str | None:
    """The server's address in its log; None while it is not there.

    Args:
        log: What the server wrote.
        host: The host that it was given, or several with commas between.
        port: The port that it was given; 0 let it choose.
        pid: The server's process.
    """
    hosts = host.split(",")
    for said in _LISTENING.finditer(log):
        address = said[1].decode("utf-8", "replace")
        if address.startswith("unix://"):
            if address.removeprefix("unix://") in hosts:
                return address
            continue
        with contextlib.suppress(ValueError):
            parts = urlsplit(address)
            named = (parts.hostname or "") in [one.strip("[]").lower() for one in hosts]
            if named and parts.port and (port == parts.port or (not port and listens(pid, parts.port) is not False)):
                return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    return None


def listens(pid: int | None, port: int) -> bool | None:
    """Whether a process or one of its group listens at a port of this machine; None where that can't be known."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    if pid is None or not tables[0].exists():
        return None
    # The system lists first who listens, so that of many thousand connections none is read.
    return any(_holds(member, inode) for table in tables for inode in _listening(table, port) for member in _group(pid))


def _listening(table: Path, port: int) -> Iterator[str]:
    with contextlib.suppress(OSError), table.open() as lines:
        next(lines, None)  # names of the columns
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN_STATE and int(fields[1].rpartition(":")[2], 16) == port:
                yield f"socket:[{fields[9]}]"


def _group(pid: int) -> Iterator[int]:
    yield pid
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != pid:
            with contextlib.suppress(OSError):
                if os.getpgid(int(name)) == pid:
                    yield int(name)


def _holds(pid: int, inode: str) -> bool:
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                if os.readlink(descriptor.path) == inode:
                    return True
    return False


def asked_for(options: Mapping[str, Any], extra_args: Sequence[str]) -> tuple[str, int]:
    """Host and port that a server is started with; among its further arguments the last ones hold."""
    found = {"--host": str(options["host"]), "--port": str(options["port"])}
    for flag, value in pairwise(extra_args):
        if flag in found:
            found[flag] = value
    port = found["--port"]
    if not (port.isascii() and port.isdigit() and len(port) <= _MOST_DIGITS):
        raise LocalServerError("--port among extra_args must be a number", remedy="pass port=")
    return found["--host"], int(port)


def check_hosts(host: str, port: int) -> None:
    """Refuse several hosts with a port that each would choose for itself.

    Raises:
        LocalServerError: For them.
    """
    if "," in host and not port:
        raise LocalServerError(f"{host} can't share one automatically chosen port", remedy="pass port=")


def clear_socket(host: str) -> None:
    """Remove the unix socket that a server left behind, which would keep the next one from starting.

    Raises:
        LocalServerError: When another server listens there.
    """
    if not host.endswith(".sock"):
        return
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(host).st_mode):
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(host)
            except ConnectionRefusedError:
                os.unlink(host)
                return
            except OSError:
                return
        raise LocalServerError(f"another server listens at {host}", remedy="stop it, or choose another path")
