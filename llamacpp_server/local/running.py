"""The running local servers of this user: one file each, so that other programs can find and reuse them.

The files lie in a directory that only this user can enter, because whoever writes one decides where prompts go. An
entry counts only while its process lives and belongs to this user.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from ..errors import NotSupportedError

_TAIL_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A running local server.

    Attributes:
        pid: Process ID of the server.
        guard: Process ID of its guard process, which keeps its log.
        base_url: Its address.
        model: File or Hugging Face name of its model; "router" for several.
        key: Digest of its model and options; equal for equal ones.
    """

    pid: int
    guard: int
    base_url: str
    model: str
    key: str

    @property
    def is_alive(self) -> bool:
        """Whether the process is running and belongs to this user."""
        try:
            os.kill(self.pid, 0)
        except OSError:
            return False
        return True

    def log_tail(self, lines: int = 50) -> str:
        """The last lines of its log.

        Raises:
            NotSupportedError: If the system has no /proc, such as macOS.
        """
        try:
            with open(f"/proc/{self.guard}/fd/2", "rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL_BYTES))
                return b"\n".join(log.read().split(b"\n")[-lines - 1 :]).decode("utf-8", "replace").rstrip("\n")
        except OSError as error:
            raise NotSupportedError(f"can't read the log of {self.model}: {error}") from error


def directory() -> Path:
    """The directory of entries, made when it is missing.

    Raises:
        OSError: When it belongs to somebody else, or others can write in it.
    """
    path = _path()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise OSError(f"{path} must be owned by this user and not be writable by others")
    return path


def _path() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_STATE_HOME")
    return Path(base or Path.home() / ".local" / "state") / "llamacpp-server"


def digest(backend: str, model: str, options: Mapping[str, Any], extra_args: Sequence[str]) -> str:
    """A digest of what a server is started with. Keys are left out: whether one opens the server is tried."""
    said = {name: str(value) for name, value in options.items() if not isinstance(value, SecretStr)}
    said.pop("api_key", None)
    with suppress(OSError):
        status = Path(model).stat()
        said["file"] = f"{status.st_size} {status.st_mtime_ns}"
    text = json.dumps([backend, str(Path(model).absolute()), said, list(extra_args)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def enter(server: RunningServer) -> None:
    """Write the entry of a server."""
    path = directory() / f"{server.pid}.json"
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        json.dump(asdict(server), file)
    os.replace(file.name, path)


def leave(pid: int) -> None:
    """Remove the entry of a server that ended."""
    with suppress(OSError):
        (_path() / f"{pid}.json").unlink()


def running_servers() -> list[RunningServer]:
    """The running local servers of this user: those of `serve` and of `LocalServer(reuse=True)`."""
    return sorted(_alive(), key=lambda server: server.base_url)


def _alive() -> Iterator[RunningServer]:
    for path in directory().glob("*.json"):
        try:
            server = _read_entry(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            continue
        if server.is_alive:
            yield server
        else:
            path.unlink(missing_ok=True)


def _read_entry(wire: Mapping[str, Any]) -> RunningServer:
    server = RunningServer(**wire)
    for pid in (server.pid, server.guard):
        if type(pid) is not int or not 1 < pid < 2**31:  # 0 and negative ones are groups of processes
            raise ValueError("not the id of a process")
    if not all(isinstance(text, str) for text in (server.base_url, server.model, server.key)):
        raise TypeError("an address, a name and a digest are texts")
    return server
