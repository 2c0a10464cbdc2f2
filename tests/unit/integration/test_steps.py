"""What both adapters do in a blocking and an awaited method is one program, carried out by either."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterator

import pytest

from llamacpp_server import LlamaServerError
from llamacpp_server.integration import aread_answer, arun_steps, read_answer, run_steps

Program = Generator[int, int, list[object]]


def doubled() -> Program:
    """Asks for three numbers; an error is noted, and the next one asked for."""
    found: list[object] = []
    for number in range(3):
        try:
            found.append((yield number))
        except LlamaServerError as error:
            found.append(str(error))
    return found


def carry_out(number: int) -> int:
    if number == 1:
        raise LlamaServerError("refused")
    return number * 2


def blocking(program: Program, step: Callable[[int], int]) -> list[object]:
    return run_steps(program, step)


def awaited(program: Program, step: Callable[[int], int]) -> list[object]:
    async def astep(number: int) -> int:
        await asyncio.sleep(0)
        return step(number)

    return asyncio.run(arun_steps(program, astep))


@pytest.mark.parametrize("run", [blocking, awaited])
def test_an_error_of_the_server_is_thrown_into_the_program_which_goes_on(
    run: Callable[[Program, Callable[[int], int]], list[object]],
) -> None:
    assert run(doubled(), carry_out) == [0, "refused", 4]


@pytest.mark.parametrize("run", [blocking, awaited])
def test_any_other_error_ends_the_program(run: Callable[[Program, Callable[[int], int]], list[object]]) -> None:
    with pytest.raises(ZeroDivisionError):
        run(doubled(), lambda number: number // 0)


class Letters:
    """Parts of an answer: the first stream fails before its first chunk."""

    def __init__(self) -> None:
        self.asked = 0

    def begin(self) -> int:
        self.asked += 1
        return self.asked

    def add(self, chunk: str) -> Iterator[str]:
        yield from chunk

    def failed(self, error: LlamaServerError) -> None:
        if self.asked > 1:
            raise error

    def end(self) -> Iterator[str]:
        yield "."


class Streams:
    """Streams of two chunks, of which the first one asked for is refused."""

    def __init__(self) -> None:
        self.closed = 0

    def opened(self, attempt: int) -> Generator[str, None, None]:
        try:
            if attempt == 1:
                raise LlamaServerError("refused")
            yield "ab"
            yield "c"
        finally:
            self.closed += 1

    async def aopened(self, attempt: int) -> AsyncGenerator[str, None]:
        async def chunks() -> AsyncGenerator[str, None]:
            try:
                if attempt == 1:
                    raise LlamaServerError("refused")
                yield "ab"
                yield "c"
            finally:
                self.closed += 1

        return chunks()


async def first_two(streams: Streams) -> list[str]:
    parts = aread_answer(Letters(), streams.aopened)
    found = [await anext(parts), await anext(parts)]
    await parts.aclose()
    return found


async def all_of(streams: Streams) -> list[str]:
    return [part async for part in aread_answer(Letters(), streams.aopened)]


def test_a_stream_that_was_refused_is_opened_again_and_ends_with_the_last_parts() -> None:
    assert list(read_answer(Letters(), Streams().opened)) == ["a", "b", "c", "."]
    assert asyncio.run(all_of(Streams())) == ["a", "b", "c", "."]


def test_leaving_the_parts_closes_the_stream() -> None:
    streams = Streams()
    parts = read_answer(Letters(), streams.opened)
    assert [next(parts), next(parts)] == ["a", "b"] and streams.closed == 1
    parts.close()
    assert streams.closed == 2
    streams = Streams()
    assert asyncio.run(first_two(streams)) == ["a", "b"] and streams.closed == 2
