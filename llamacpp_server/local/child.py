"""The two processes below a LocalServer: a guard, and the embedded server that it may run.

The guard starts the server, and ends it as soon as anything is written to its stdin or its stdin ends. The other end
of that pipe is held by the process that made the LocalServer and by nothing else, so the server is ended however that
process dies: the kernel closes the pipe. The guard has one thread, so Linux can be asked to end the server with the
guard as well (PR_SET_PDEATHSIG is bound to the thread that started the child).

This file is run by its path and uses the standard library only: importing the package would take longer than the
start of a small server.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, Final

STDIN: Final = 0
STDOUT: Final = 1
LOG: Final = 2
NOT_STARTED: Final = 127
"""Exit code of the guard when the server's program could not be started at all, as in a shell."""

# How often it is looked whether the parent is alive, in case a fork of it holds the pipe open; and at the log's size.
_CHECK_SECONDS: Final = 2.0
# Where the log begins again: a server of weeks must not fill the disk.
_LOG_LIMIT: Final = 64 * 2**20
# Seconds after the first and the second SIGTERM. The first stops all work, and yet a server may wait for a client that
# holds a stream, even for one that left in that moment; the second makes it exit at once (b11434).
PATIENCE: Final = (1.0, 4.0)
_PR_SET_PDEATHSIG: Final = 1


def guard() -> int:
    """Runs the server that the first line of stdin describes; the exit code is the server's, 128 + n for signal n.

    The line is JSON with `argv`, `env`, `stdin` (text for the server) and `parent` (id of the process to live with).
    The server's process id is written to stdout; what the server writes goes to stderr.
    """
    order = _first_line()
    wakeups = _signal_pipe()
    # After the log was cut, all go on writing at its end and not where they were.
    fcntl.fcntl(LOG, fcntl.F_SETFL, fcntl.fcntl(LOG, fcntl.F_GETFL) | os.O_APPEND)
    try:
        server = subprocess.Popen(  # noqa: S603 (the caller's own command)
            order["argv"],
            env=order["env"],
            stdin=subprocess.PIPE,
            stdout=LOG,
            stderr=LOG,
            process_group=0,
            preexec_fn=_end_with_guard,  # safe: this process has one thread
        )
    except OSError as error:
        _write(LOG, f"can't run {order['argv'][0]}: {error.strerror}\n")
        return NOT_STARTED
    assert server.stdin is not None  # noqa: S101 (for the type checker: it is a pipe)
    with contextlib.suppress(BrokenPipeError):  # it ended at once; its log says why
        server.stdin.write(order["stdin"].encode())
        server.stdin.flush()
    _write(STDOUT, f"{server.pid}\n")
    while server.poll() is None and not _asked_to_stop(wakeups) and os.getppid() == order["parent"]:
        _bound_log()
    code = _end(server)
    return code if code >= 0 else 128 - code


def _asked_to_stop(wakeups: int) -> bool:
    """Waits a while for something to happen; whether it was anything but the end of a child."""
    ready, _, _ = select.select([STDIN, wakeups], [], [], _CHECK_SECONDS)
    signals = set(os.read(wakeups, 512)) if wakeups in ready else set()
    return STDIN in ready or bool(signals - {signal.SIGCHLD})


def _end(server: subprocess.Popen[bytes]) -> int:
    """Ends the server and what it started; 0 when it was still running, as it did what it was told then."""
    running = server.poll() is None
    if running:
        for seconds in PATIENCE:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(seconds)
                break
    # Whatever it is doing; and a router's children may outlive it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)
    code = server.wait()
    return 0 if running else code


def _signal_pipe() -> int:
    """A file descriptor that becomes readable with each signal."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return readable


def _end_with_guard() -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _bound_log() -> None:
    if os.fstat(LOG).st_size > _LOG_LIMIT:
        os.ftruncate(LOG, 0)
        _write(LOG, "(the log before this line was dropped)\n")


def _write(descriptor: int, text: str) -> None:
    os.write(descriptor, text.encode())


def embedded() -> int:
    """Runs the server of the xllamacpp wheel until stdin ends, with the parameters that its first line gives."""
    params = _first_line()
    import xllamacpp

    given = xllamacpp.CommonParams()
    for path, value in params.items():
        try:
            _set(xllamacpp, given, path, value)
        except AttributeError:
            _write(LOG, f"xllamacpp {xllamacpp.__version__} has no {path}; a newer one may have it\n")
            return 1
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            _write(LOG, f"xllamacpp {xllamacpp.__version__} does not take this value for {path}: {error}\n")
            return 1
    try:
        server = xllamacpp.Server(given)
    except RuntimeError as error:
        _wait_for_log()
        _write(LOG, f"{error}\n")
        return 1
    while server is not None and os.read(STDIN, 512):
        pass
    os._exit(0)  # at once: what runs in the server must not hold up its end


def _wait_for_log() -> None:
    """llama.cpp writes its log from a thread of its own, which may not have come to the reason of a failure yet."""
    size = -1
    for _ in range(20):
        if size == (size := os.fstat(LOG).st_size) and size:
            return
        time.sleep(0.1)


def _set(xllamacpp: Any, params: Any, path: str, value: Any) -> None:
    """Sets the attribute at a dotted path, as a value of the type that it has."""
    if path == "hostnames" and not hasattr(params, path):  # before 2026.10
        path, (value,) = "hostname", value
    *parents, name = path.split(".")
    owner = params
    for parent in parents:
        owner = getattr(owner, parent)
    current = getattr(owner, name)
    if isinstance(current, str) and isinstance(value, list):  # one alias, before 2026
        (value,) = value
    if isinstance(current, enum.Enum):
        value = type(current)[value]
    elif isinstance(current, set):
        value = set(value)
    elif path == "speculative.types":
        value = [xllamacpp.common_speculative_type[kind] for kind in value]
    elif path == "lora_adapters":
        value = [xllamacpp.CommonAdapterLoraInfo(file, scale) for file, scale in value]
    setattr(owner, name, value)


def _first_line() -> Any:
    """The first line of stdin as JSON; unbuffered, so that what follows stays in the pipe."""
    with open(STDIN, "rb", buffering=0, closefd=False) as stdin:
        return json.loads(stdin.readline())


if __name__ == "__main__":
    # A failed server's last words are written by a thread of it, which an exit in order waits for.
    sys.exit(embedded() if sys.argv[1:] == ["embedded"] else guard())
