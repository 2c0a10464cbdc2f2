"""A llama.cpp server run by this process: started, awaited, and never left behind.

It is always a separate process, with the embedded wheel too: a crash of the server is then an error here, and its work
does not block this interpreter. `child.py` explains how it is stopped when this process dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Literal, Self, Unpack
from weakref import WeakSet

import anyio.to_thread

from .._frames import hides_arguments
from .._notices import logger
from ..async_client import AsyncLlamaServerClient
from ..client import LlamaServerClient
from ..errors import LlamaServerError, NotSupportedError
from ..progress import Progress
from ..settings import DEFAULT_LOAD_TIMEOUT, ServerSettings, SettingsChanges, WaitState, normalize_base_url
from ..transport import (
    Transport,
    note_context,
)
from .address import address_in, asked_for, check_hosts, clear_socket
from .backends import Backend, choose_backend, find_binary
from .decisions_copy import kept_decisions_copy
from .files import (
    LocalModel,
    LocalServerError,
    check_files,
    choose_model,
    find_models,
    full_name,
)
from .hub import download_failure, downloaded_bytes, hub_name
from .memory import MemoryEstimate, estimate_memory
from .option_values import check_arguments, checked_values
from .options import FilePath, LocalServerOptions, api_keys, argv_for, known_options, params_for
from .running import RunningServer, digest, enter, leave, running_servers

__all__ = ["LocalModel", "LocalServer", "LocalServerError", "LocalServerOptions", "find_binary", "find_models"]

# Seconds; the guard needs 5 at most, however the server behaves.
_LONGEST_STOP: Final = 10.0
_FIRST_POLL, _SLOWEST_POLL = 0.005, 0.25
# A server that crashes more often than this within a minute is not started again.
_MOST_RESTARTS, _RESTART_WINDOW = 5, 60.0
# Seconds that a running server has to answer before it is reused.
_REUSE_PATIENCE: Final = 2.0
# Slots that a server with an automatic number has (b11549).
_AUTOMATIC_SLOTS: Final = 4
# Flags that decide whether slots share one context.
_SLOT_FLAGS: Final = ("-np", "--parallel", "-kvu", "--kv-unified", "-no-kvu", "--no-kv-unified")
_TAIL_BYTES: Final = 64 * 1024
# Configuration of another server, which ours must not take over. LLAMA_CACHE and HF_TOKEN stay.
_STRAY: Final = re.compile(r"LLAMA_ARG_|LLAMA_API_KEY$|LLAMA_LOG_|AIP_")


class LocalServer:
    """A llama-server on this machine, for the duration of a `with` block or until `stop`.

    Examples:
        >>> with LocalServer("model.gguf", ctx_size=4096, parallel=2) as server:  # doctest: +SKIP
        ...     server.client().chat(ChatRequest(messages=[{"role": "user", "content": "Hello"}])).content

    It is stopped when this process ends, even if it is killed. After `stop` or a crash it can be started again.

    Args:
        model: GGUF file (the first one of a split model), or the name of a Hugging Face repository such as
            `org/repo:Q8_0`, which the binary downloads into its cache. None for a router with `models_dir`.
        backend: `embedded` is llama.cpp's server in the xllamacpp wheel, `binary` a llama-server program; `auto` uses
            the wheel unless it is missing, `binary` or `extra_args` is given, or an option needs the binary.
        binary: The program; None searches for one as `find_binary` does.
        extra_args: Further arguments for the binary. Its log must stay enabled, as the address is read from it.
        load_timeout: Maximum seconds for starting; a download counts only while no data arrives.
        on_wait: Called repeatedly while the model loads.
        on_progress: Called repeatedly with the progress of downloading and loading.
        reuse: Whether to use a healthy server with the same model and options that this user already runs (from another
            `LocalServer(reuse=True)` or `llamacpp-server serve`), and to register this one for others. A reused server
            is not stopped here; it ends with the program that started it.
        restart: Whether to restart the server at the same address after a crash, at most five times a minute. Calls in
            flight raise an error; later calls of its `client()`, or of a client with `wait_while_refused=True`, wait.
        decisions: Whether to serve a copy of the model that also supports `/v1/systemone`
            (`client.decide(engine="native")`). The copy, as large as the model, is written at the first start and kept
            in `$XDG_CACHE_HOME/llamacpp-server`.
        **options: See `LocalServerOptions`.

    Raises:
        NotSupportedError: If no installed backend supports this; `remedy` says what to install.
        TypeError: For an unknown option.
        BadRequestError: For an option with a value of another type, or out of its range.
    """

    @hides_arguments
    def __init__(  # noqa: PLR0913 (keywords, each of its own)
        self,
        model: FilePath | None = None,
        *,
        backend: Backend = "auto",
        binary: FilePath | None = None,
        extra_args: Sequence[str] = (),
        load_timeout: float = DEFAULT_LOAD_TIMEOUT,
        on_wait: Callable[[WaitState], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        reuse: bool = False,
        restart: bool = False,
        decisions: bool = False,
        **options: Unpack[LocalServerOptions],
    ) -> None:
        check_arguments(model, binary, extra_args, load_timeout)
        given = checked_values({name: value for name, value in known_options(options).items() if value is not None})
        self._hub = hub_name(model)
        self.model = None if model is None or self._hub else Path(model)
        self.load_timeout = load_timeout
        self._on_wait = on_wait
        self.backend: Literal["embedded", "binary"]
        needs = "starting without a model" if model is None else "a Hugging Face model" if self._hub else ""
        self.backend, self._binary = choose_backend(backend, binary, given, extra_args, needs=needs)
        self._options = {**self._defaults(given), **given}
        if "draft_model" in given:
            self._options.setdefault("spec_type", "draft-simple")  # without it the model is loaded and not used
        self._extra_args = list(extra_args)
        self._guard: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._pid: int | None = None
        self._base_url: str | None = None
        self._log: IO[bytes] | None = None
        self._last_log = b""
        self._transports: WeakSet[Transport] = WeakSet()
        self._on_progress = on_progress
        self._reuse, self._restart, self._decisions = reuse, restart, decisions
        if decisions and self.model is None:
            raise NotSupportedError("decisions=True requires a GGUF file", remedy="pass the path of a downloaded model")
        self._file = self.model
        self._reused: RunningServer | None = None
        self._received, self._last_arrival = 0, 0.0
        # Held while a server is started or stopped; only the thread that restarts it competes.
        self._lifecycle = threading.Lock()
        self.restarts: list[float] = []

    @classmethod
    def from_directory(cls, directory: FilePath, name: str | None = None, **arguments: Any) -> Self:
        """Create a server for a model in a directory, with the projector in the same directory.

        Args:
            directory: Directory to search, including its subdirectories.
            name: Name of the model, or a unique part of it; None if there is only one model.
            **arguments: Further arguments of the class.

        Raises:
            LocalServerError: If no model matches, or several do; it lists the models.
        """
        found = choose_model(find_models(directory), name, directory)
        if found.mmproj is not None:
            arguments.setdefault("mmproj", found.mmproj)
        return cls(found.path, **arguments)

    def __repr__(self) -> str:
        where = self._base_url if self.is_running else "not running"
        return f"{type(self).__name__}({self._name()}, backend={self.backend!r}, {where})"

    # -- start and stop

    def start(self) -> Self:
        """Start the server and wait until it is ready; does nothing if it is running.

        Raises:
            LocalServerError: If it exits instead (with the end of its log), or exceeds `load_timeout`.
        """
        if self.is_running:
            return self
        self.stop()
        if self._reuse and self._reuse_running():
            return self
        check_files({"model": self.model, **self._options})
        check_hosts(*asked_for(self._options, self._extra_args))
        self._log_estimate()
        if self._decisions and self.model is not None:
            self._file = kept_decisions_copy(self.model)
        try:
            with self._lifecycle:
                self._launch(self._options)
            self._wait_until_ready()
            if self._reuse:
                enter(self.entry())
        except BaseException:
            self.stop()
            raise
        if self._restart:
            threading.Thread(target=self._keep_running, name="llamacpp-server restart", daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop the server; returns once it is gone, after 5 s at most. Does nothing if it is not running."""
        if self._owner != os.getpid():  # a forked child must not end its parent's server
            self._guard = self._pid = self._base_url = self._reused = None
            self._lifecycle = threading.Lock()  # the fork may have copied a held one
            return
        with self._lifecycle:
            self._stop()

    def _stop(self) -> None:
        guard, self._guard, self._reused = self._guard, None, None
        if self._pid is not None:
            leave(self._pid)
        self._pid = self._base_url = None
        if guard is None:
            return
        for transport in list(self._transports):
            transport.close()
        assert guard.stdin  # noqa: S101 (for the type checker)
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            # The byte ends it also when a fork holds a copy of the pipe.
            guard.stdin.write(b"\n")
            guard.stdin.close()
        try:
            guard.wait(_LONGEST_STOP)
        except subprocess.TimeoutExpired:
            guard.kill()
            guard.wait()
        self._forget(guard)

    def _forget(self, guard: subprocess.Popen[bytes]) -> None:
        """Close what belongs to a server that ended, and keep the end of its log."""
        assert guard.stdin and guard.stdout and self._log  # noqa: S101 (for the type checker)
        with contextlib.suppress(BrokenPipeError):
            guard.stdin.close()
        guard.stdout.close()
        self._last_log = self._log_end()
        self._log.close()
        self._log = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        try:
            return await anyio.to_thread.run_sync(self.start)
        except BaseException:
            self.stop()  # a cancelled start may have come to its end
            raise

    async def __aexit__(self, *error: object) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    # -- what it is

    @property
    def base_url(self) -> str:
        """The address of the server.

        Raises:
            LocalServerError: If it was not started.
        """
        if self._base_url is None:
            raise LocalServerError(
                "the local server is not running", remedy="use it in a `with` block, or call start()"
            )
        return self._base_url

    @property
    def pid(self) -> int | None:
        """Process ID of the server; None if it was not started."""
        return self._pid

    @property
    def is_running(self) -> bool:
        """Whether the server process is running."""
        if self._reused is not None:
            return self._reused.is_alive
        return self._guard is not None and self._guard.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Exit code of a server that exited by itself, 128 + n for signal n; None while it runs and after `stop`."""
        return self._guard.poll() if self._guard is not None else None

    @property
    def is_reused(self) -> bool:
        """Whether this server was started by another program or object (`reuse=True`)."""
        return self._reused is not None

    def entry(self) -> RunningServer:
        """The entry by which other programs find it.

        Raises:
            LocalServerError: If it was not started here.
        """
        if self._guard is None or self._pid is None:
            raise LocalServerError(
                "the local server is not running", remedy="use it in a `with` block, or call start()"
            )
        name = self._hub or (str(self.model) if self.model else "router")
        return RunningServer(self._pid, self._guard.pid, self.base_url, name, self._key())

    def estimate_memory(self) -> MemoryEstimate | None:
        """Estimate the memory it needs from the model's header; None for a router or a model not yet downloaded.

        Raises:
            LocalServerError: If the model can't be read.
        """
        return None if self.model is None else estimate_memory(self.model, self._options)

    @hides_arguments
    def client(self, **settings: Unpack[SettingsChanges]) -> LlamaServerClient:
        """Create a client for it with its key. The client is closed by `stop` or when nothing refers to it.

        Args:
            **settings: Fields of `ServerSettings`.
        """
        transport = _OwnTransport()
        self._transports.add(transport)
        return LlamaServerClient(settings=self._settings(settings), transport=transport)

    @hides_arguments
    def async_client(self, **settings: Unpack[SettingsChanges]) -> AsyncLlamaServerClient:
        """Create an async client for it with its key.

        Args:
            **settings: Fields of `ServerSettings`.
        """
        return AsyncLlamaServerClient(settings=self._settings(settings))

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the server's log, also after its end; "" if it was never started."""
        return "\n".join(self._log_end().decode("utf-8", "replace").splitlines()[-lines:])

    # -- its parts

    @property
    def _keys(self) -> list[str]:
        return api_keys(self._options.get("api_key"))

    def _defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Common preparation of both backends, and of names that are not files."""
        name = self._hub.partition(":")[0] if self._hub else self.model and full_name(self.model)
        alias = {"alias": name} if name else {}
        # With an automatic number of slots the server shares the context, whatever it was asked for.
        slots = _AUTOMATIC_SLOTS if given.get("kv_unified") is False else -1
        return {"host": "127.0.0.1", "port": 0, "parallel": slots, **alias}

    def _log_end(self) -> bytes:
        if self._log is None:
            return self._last_log
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))

    @hides_arguments
    def _settings(self, fields: Mapping[str, Any]) -> ServerSettings:
        key = {"api_key": self._keys[0]} if self._keys else {}
        waits = {"wait_while_refused": True} if self._restart else {}
        return ServerSettings(**{"base_url": self.base_url, **key, **waits, **fields})

    def _name(self) -> str:
        return repr(self._hub or str(self.model)) if self._hub or self.model else "router"

    def _log_estimate(self) -> None:
        if self.model is not None:
            with contextlib.suppress(LocalServerError):  # the server itself says what is wrong with the file
                logger.info("%s needs about %s", self._name(), estimate_memory(self.model, self._options))

    def _wait_until_ready(self) -> None:
        started = time.monotonic()
        self._received, self._last_arrival = 0, 0.0
        self._base_url = self._wait_for_address(started)
        left = max(0.0, self.load_timeout - (time.monotonic() - started))
        with self.client(on_wait=lambda state: self._while_loading(state.elapsed)) as client:
            client.wait_until_ready(left)
        self._note_context()

    def _note_context(self) -> None:
        """Tell the gate whether the slots share one context, as the server does not."""
        flags = {*_SLOT_FLAGS} & {argument.partition("=")[0] for argument in self._extra_args}
        if not flags:
            shared = bool(self._options.get("kv_unified")) or self._options["parallel"] < 0
            note_context(self.base_url, shared=shared)

    # -- a server that runs already, and one that crashed

    def _key(self) -> str:
        decisions = ["decisions"] * self._decisions
        return digest(self.backend, self._hub or str(self.model), self._options, [*self._extra_args, *decisions])

    def _reuse_running(self) -> bool:
        """Whether a server with the same model and options runs and answers; it is then the one in use."""
        for server in running_servers():
            if server.key != self._key():
                continue
            self._reused, self._owner, self._base_url, self._pid = server, os.getpid(), server.base_url, None
            try:
                with self.client(read_timeout=_REUSE_PATIENCE, max_retries=0, wait_while_refused=False) as client:
                    client.wait_until_ready(_REUSE_PATIENCE)
                    client.props()  # asks for the key, which /health does not
            except LlamaServerError as error:
                logger.info("can't reuse the server at %s: %s", server.base_url, error)
                self._reused = self._base_url = None
            else:
                self._note_context()
                return True
        return False

    def _keep_running(self) -> None:
        """Start the server again whenever it crashes, until it is stopped."""
        while (guard := self._guard) is not None:
            guard.wait()
            now = time.monotonic()
            self.restarts = [at for at in self.restarts if at > now - _RESTART_WINDOW]
            if self._guard is not guard:
                return
            if len(self.restarts) >= _MOST_RESTARTS:
                logger.error("the server for %s crashed too often; not restarting it", self._name())
                return
            try:
                with self._lifecycle:
                    if self._guard is not guard:
                        return
                    logger.warning("the server for %s exited with %s; restarting it", self._name(), guard.returncode)
                    self.restarts.append(now)
                    self._forget(guard)
                    self._launch({**self._options, **self._same_address()})
                self._wait_until_ready()
            except (LlamaServerError, OSError) as error:
                logger.warning("restart failed: %s", error)

    def _same_address(self) -> dict[str, Any]:
        port = re.search(r":(\d+)(?:/|$)", self._base_url or "")
        return {"port": int(port[1])} if port else {}

    # -- how it is done

    def _launch(self, options: Mapping[str, Any]) -> None:
        self._owner = os.getpid()
        clear_socket(asked_for(options, self._extra_args)[0])
        environ = {name: value for name, value in os.environ.items() if not _STRAY.match(name)}
        order: dict[str, Any] = {"env": environ, "parent": self._owner, "stdin": ""}
        model = [] if self._file is None else ["--model", str(self._file)]
        model = ["--hf-repo", self._hub] if self._hub else model
        if self.backend == "binary":
            order["argv"] = [str(self._binary), *model, *argv_for(options), *self._extra_args]
            # On a command line, everybody on the machine could read them.
            if self._keys:
                environ["LLAMA_API_KEY"] = ",".join(self._keys)
            if token := options.get("hf_token"):
                environ["HF_TOKEN"] = token.get_secret_value()
        else:
            order["argv"] = [*_CHILD, "embedded"]
            order["stdin"] = json.dumps({"model.path": str(self._file), **params_for(options)}) + "\n"
        self._log = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (it is read after the server's end)
        self._guard = subprocess.Popen(  # noqa: S603 (our own file)
            _CHILD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,  # ^C in a terminal is for this process, which then stops the server
        )
        assert self._guard.stdin and self._guard.stdout  # noqa: S101 (for the type checker: they are pipes)
        with contextlib.suppress(BrokenPipeError):  # it has ended, and its exit code will be found
            self._guard.stdin.write(json.dumps(order).encode() + b"\n")
            self._guard.stdin.flush()
        self._pid = int(self._guard.stdout.readline() or b"0") or None

    def _wait_for_address(self, started: float) -> str:
        """The server names its address once it listens; with port 0 nobody else can know it."""
        pause = _FIRST_POLL
        while True:
            if (file := self._log) is None:
                raise LocalServerError("the local server was stopped while starting")
            log = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
            address = address_in(log, *asked_for(self._options, self._extra_args), self._pid)
            self._while_loading(time.monotonic() - started)
            if address is not None:
                return normalize_base_url(address) + str(self._options.get("api_prefix", ""))
            time.sleep(pause)
            pause = min(1.25 * pause, _SLOWEST_POLL)

    def _while_loading(self, elapsed: float) -> None:
        if self._hub and (received := downloaded_bytes(self._hub)) > self._received:
            self._received, self._last_arrival = received, elapsed
            if self._on_progress is not None:
                self._on_progress(Progress("downloading", received, None, "bytes", model=self._hub))
        if self.exit_code is not None:
            if self._hub and (failure := download_failure(self._hub, self.log_tail(200))):
                raise LocalServerError(failure[0], remedy=failure[1], exit_code=self.exit_code, log=self.log_tail())
            raise LocalServerError(
                f"the server for {self._name()} exited with {_described(self.exit_code)} before it was ready",
                exit_code=self.exit_code,
                log=self.log_tail(),
            )
        if elapsed - self._last_arrival > self.load_timeout:
            raise LocalServerError(
                f"the server for {self._name()} was not ready after {self.load_timeout:.0f} s",
                remedy="raise load_timeout",
                log=self.log_tail(),
            )
        if self._on_progress is not None and not self._received:
            self._on_progress(Progress("loading", elapsed, self.load_timeout, "seconds", model=self._name()))
        if self._on_wait is not None:
            self._on_wait(WaitState("loading", elapsed, self.load_timeout, self._base_url or ""))


class _OwnTransport(Transport):
    """Closes its connections when nothing refers to it, neither a client nor an open stream."""

    def __del__(self) -> None:
        self.close()


_CHILD: Final = [sys.executable, "-P", str(Path(__file__).with_name("child.py"))]


def _described(exit_code: int) -> str:
    """`exit code 139 (SIGSEGV)`."""
    if exit_code > 128:
        try:
            return f"exit code {exit_code} ({signal.Signals(exit_code - 128).name})"
        except ValueError:
            pass
    return f"exit code {exit_code}"
