"""Run a batch job: unanswered lines, ordered by prefix, with as many concurrent requests as the server has slots."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import anyio
import anyio.abc

from .._replies import fold_chat, fold_completion
from ..errors import (
    AuthenticationFailedError,
    BadRequestError,
    ConnectionFailedError,
    LlamaServerError,
    RequestTimeoutError,
    ServerLoadingError,
)
from ..requests import ChatRequest
from ..settings import ServerSettings
from ..vectors import EmbedRequest
from .journal import Journal
from .lines import BatchLine, failed, merged_request, output_line, read_line, split_embeddings

FilePath = str | os.PathLike[str]

_MOST_AT_ONCE: Final = 256
_MOST_WORKERS: Final = 1024
# Texts, and their characters, of lines that are embedded by one request.
_MOST_TEXTS: Final = 32
_MOST_CHARACTERS: Final = 1 << 17
# Seconds for the threads to end after an interrupt; they look after each token.
_PATIENCE: Final = 0.5
_LOOK: Final = 0.2
# What says something of the server, not of the request: the job stops, and can be resumed.
_ENDS_THE_JOB: Final = (ConnectionFailedError, ServerLoadingError, AuthenticationFailedError)


class _Client(Protocol):
    """The part of a client that a job needs; the async client's methods have the same names."""

    settings: ServerSettings

    @property
    def stream_chat(self) -> Any:
        """As in the client."""

    @property
    def stream_complete(self) -> Any:
        """As in the client."""

    @property
    def chat(self) -> Any:
        """As in the client."""

    @property
    def complete(self) -> Any:
        """As in the client."""

    @property
    def embed_texts(self) -> Any:
        """As in the client."""

    @property
    def info(self) -> Any:
        """As in the client."""


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """Progress of a job.

    Attributes:
        done: Lines that have an answer.
        total: Lines of the input.
        errors: Answers that are errors.
        seconds: Since the job began or was resumed.
    """

    done: int
    total: int
    errors: int
    seconds: float


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """The result of a batch job.

    Attributes:
        total: Lines of the input.
        answered: Lines that were answered by this run.
        resumed: Lines that had an answer before.
        errors: Answers in the file that are errors.
        seconds: How long it took.
    """

    total: int
    answered: int
    resumed: int
    errors: int
    seconds: float


@dataclass
class _Job:
    """State shared by both ways of running. Lines are read again when it is their turn: only their places are kept."""

    source: Path
    journal: Journal
    on_progress: Callable[[BatchProgress], None] | None
    places: list[tuple[bytes, int, int, bytes]] = field(default_factory=list)
    total: int = 0
    resumed: int = 0
    answered: int = 0
    most_texts: int = _MOST_TEXTS
    begun: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)
    file: BinaryIO = field(init=False)

    def open(self) -> None:
        """Check the whole input before anything is sent.

        Raises:
            BadRequestError: For a line that is no request, ids that occur twice, or an output of another input.
        """
        self.file = self.source.open("rb")
        seen = set[str]()
        for line, offset in self._read_all():
            if line.id in seen:
                raise BadRequestError(f"line {line.number} of the batch file: the id {line.id!r} occurs twice")
            seen.add(line.id)
            before = self.journal.done.get(line.id)
            if before is None:
                self.places.append((line.key(), line.number, offset, line.mark()))
            elif before not in ("", line.digest()):
                raise BadRequestError(
                    f"line {line.number} of the batch file: {self.journal.path} has an answer to another request with "
                    f"the id {line.id!r}",
                    remedy="name another output file",
                )
        if strangers := self.journal.done.keys() - seen:
            raise BadRequestError(
                f"{self.journal.path} has answers for ids that {self.source} does not have, such as "
                f"{min(strangers)!r}: it belongs to another batch file",
                remedy="name another output file",
            )
        self.total, self.resumed = len(seen), len(self.journal.done)
        self.places.sort()
        self.places.reverse()  # taken from the end

    def close(self) -> None:
        """Close both files."""
        with self.lock:
            self.journal.close()
            if hasattr(self, "file"):
                self.file.close()

    def share(self, workers: int) -> None:
        """Spread the texts over the workers if there are few."""
        self.most_texts = min(_MOST_TEXTS, max(1, -(-len(self.places) // workers)))

    def next(self) -> list[BatchLine]:
        """The next lines to send as one request; none when there are none."""
        lines, texts, size = list[BatchLine](), 0, 0
        with self.lock:
            while self.places and not self.file.closed:
                line = self._read_at(*self.places[-1])
                if lines and not line.joins(lines[0]):
                    break
                if line.kind == "embeddings" and isinstance(inputs := line.texts(), list):
                    texts, size = texts + len(inputs), size + sum(map(len, filter(_is_text, inputs)))
                    if lines and (texts > self.most_texts or size > _MOST_CHARACTERS):
                        break
                self.places.pop()
                lines.append(line)
                if line.kind != "embeddings":
                    break
        return lines

    def note(self, results: Sequence[dict[str, Any]]) -> None:
        """Write answers, and report progress."""
        for result in results:
            with self.lock:
                if not self.journal.is_open:
                    return  # the job was stopped meanwhile; the line is sent again when it is resumed
                self.journal.write(result)
                self.answered += 1
                self.journal.errors += result["error"] is not None
                done, errors = self.resumed + self.answered, self.journal.errors
            if self.on_progress is not None:
                self.on_progress(BatchProgress(done, self.total, errors, time.monotonic() - self.begun))

    def summary(self) -> BatchSummary:
        """Return the result so far."""
        seconds = time.monotonic() - self.begun
        return BatchSummary(self.total, self.answered, self.resumed, self.journal.errors, seconds)

    def _read_at(self, _key: bytes, number: int, offset: int, mark: bytes) -> BatchLine:
        self.file.seek(offset)
        line = read_line(self.file.readline(), number)
        if line.mark() != mark:
            raise BadRequestError(f"line {number} of the batch file was changed while the job ran")
        return line

    def _read_all(self) -> Iterator[tuple[BatchLine, int]]:
        offset = 0
        for number, raw in enumerate(self.file, 1):
            if raw.strip():
                yield read_line(raw, number), offset
            offset += len(raw)


def _job(
    source: FilePath,
    output: FilePath,
    concurrency: int | None,
    retry_errors: bool,
    on_progress: Callable[[BatchProgress], None] | None,
) -> _Job:
    if concurrency is not None:
        if not isinstance(concurrency, int) or isinstance(concurrency, bool):
            raise BadRequestError(f"concurrency must be an int or None, not {type(concurrency).__name__}")
        if concurrency < 1:
            raise BadRequestError(f"concurrency must be at least 1, not {concurrency}")
    for name, path in (("source", source), ("output", output)):
        if not isinstance(path, str | PathLike):
            raise BadRequestError(f"{name} must be the path of a file, not {type(path).__name__}")
    if os.path.realpath(source) == os.path.realpath(output):  # `Path.resolve` fails for links in a circle
        raise BadRequestError("the output file of a batch job must not be its input file")
    if Path(source).exists() and not Path(source).is_file():
        raise BadRequestError(
            f"{source} is not a file: the input of a batch job is read more than once", remedy="write it to a file"
        )
    job = _Job(Path(source), Journal(output, retry_errors=retry_errors), on_progress)
    try:
        job.open()
    except BaseException:
        job.close()
        raise
    return job


def run_batch(
    client: _Client,
    source: FilePath,
    output: FilePath,
    *,
    concurrency: int | None = None,
    retry_errors: bool = False,
    on_progress: Callable[[BatchProgress], None] | None = None,
) -> BatchSummary:
    """`LlamaServerClient.batch_file`."""
    job = _job(source, output, concurrency, retry_errors, on_progress)
    with closing(job):
        if job.places:
            most = _workers(concurrency or _slots(client), job)
            job.share(most)
            _on_threads(client, job, most)
        return job.summary()


def _on_threads(client: _Client, job: _Job, most: int) -> None:
    stopped, errors = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            while not stopped.is_set() and (lines := job.next()):
                job.note(_send(client, lines, stopped.is_set))
        except BaseException as error:  # noqa: BLE001 (raised by the thread that waits)
            errors.append(error)
            stopped.set()

    threads = [threading.Thread(target=work, name="llamacpp-server", daemon=True) for _ in range(most)]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            threads[0].join(_LOOK)  # in pieces, so that ^C is seen on every platform
            threads.append(threads.pop(0))
    except BaseException:
        stopped.set()
        until = time.monotonic() + _PATIENCE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        raise
    if errors:
        raise errors[0]


async def arun_batch(
    client: _Client,
    source: FilePath,
    output: FilePath,
    *,
    concurrency: int | None = None,
    retry_errors: bool = False,
    on_progress: Callable[[BatchProgress], None] | None = None,
) -> BatchSummary:
    """`AsyncLlamaServerClient.batch_file`."""
    job = await anyio.to_thread.run_sync(_job, source, output, concurrency, retry_errors, on_progress)

    errors = list[LlamaServerError | OSError]()

    async def work(group: anyio.abc.TaskGroup) -> None:
        try:
            while lines := await anyio.to_thread.run_sync(job.next):
                await anyio.to_thread.run_sync(job.note, await _asend(client, lines))
        except (LlamaServerError, OSError) as error:
            errors.append(error)  # not through the group, which would wrap it
            group.cancel_scope.cancel()

    with closing(job):
        if job.places:
            most = _workers(concurrency or await _aslots(client), job)
            job.share(most)
            async with anyio.create_task_group() as group:
                for _ in range(most):
                    group.start_soon(work, group)
        if errors:
            raise errors[0]
        return job.summary()


def _send(client: _Client, lines: list[BatchLine], is_stopped: Callable[[], bool]) -> list[dict[str, Any]]:
    """The output lines; none when the job was stopped within the answer."""
    if len(lines) == 1:
        return _send_alone(client, lines[0], is_stopped)
    try:
        found = client.embed_texts(merged_request(lines))
        return [output_line(*pair) for pair in zip(lines, split_embeddings(lines, found), strict=True)]
    except _ENDS_THE_JOB:
        raise
    except RequestTimeoutError as error:
        return [failed(line, error) for line in lines]
    except LlamaServerError:  # one of them is to blame, and has its error when it is alone
        return [result for line in lines if not is_stopped() for result in _send_alone(client, line, is_stopped)]


def _send_alone(client: _Client, line: BatchLine, is_stopped: Callable[[], bool]) -> list[dict[str, Any]]:
    try:
        request = line.request()
        if isinstance(request, EmbedRequest):
            return [output_line(line, client.embed_texts(request))]
        chat = isinstance(request, ChatRequest)
        stream: Any = client.stream_chat(request) if chat else client.stream_complete(request)
        deltas = list[Any]()
        with closing(stream):
            for delta in stream:
                deltas.append(delta)
                if is_stopped():
                    return []
        return [output_line(line, fold_chat(deltas) if chat else fold_completion(deltas))]
    except _ENDS_THE_JOB:
        raise
    except LlamaServerError as error:
        return [failed(line, error)]


async def _asend(client: _Client, lines: list[BatchLine]) -> list[dict[str, Any]]:
    if len(lines) == 1:
        return [await _asend_alone(client, lines[0])]
    try:
        found = await client.embed_texts(merged_request(lines))
        return [output_line(*pair) for pair in zip(lines, split_embeddings(lines, found), strict=True)]
    except _ENDS_THE_JOB:
        raise
    except RequestTimeoutError as error:
        return [failed(line, error) for line in lines]
    except LlamaServerError:  # as in `_send`
        return [await _asend_alone(client, line) for line in lines]


async def _asend_alone(client: _Client, line: BatchLine) -> dict[str, Any]:
    try:
        request = line.request()
        if isinstance(request, EmbedRequest):
            return output_line(line, await client.embed_texts(request))
        if isinstance(request, ChatRequest):
            return output_line(line, await client.chat(request))
        return output_line(line, await client.complete(request))
    except _ENDS_THE_JOB:
        raise
    except LlamaServerError as error:
        return failed(line, error)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _slots(client: _Client) -> int:
    limit = client.settings.max_concurrency
    return _concurrency(limit if isinstance(limit, int) else client.info().total_slots)


async def _aslots(client: _Client) -> int:
    limit = client.settings.max_concurrency
    return _concurrency(limit if isinstance(limit, int) else (await client.info()).total_slots)


def _workers(wanted: int, job: _Job) -> int:
    """Threads or tasks: no more than lines, and no more than a process can have."""
    return min(wanted, len(job.places), _MOST_WORKERS)


def _concurrency(slots: int | None) -> int:
    return min(max(1, slots or 1), _MOST_AT_ONCE)
