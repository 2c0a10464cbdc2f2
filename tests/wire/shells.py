"""The blocking and the awaiting client behind one face, so that one test proves both."""

import asyncio

from llamacpp_server import AsyncLlamaServerClient, ChatRequest, LlamaServerClient


class Blocking:
    """Calls of `LlamaServerClient`."""

    kind = "sync"

    def __init__(self, base_url, **fields):
        self.client = LlamaServerClient(base_url, **fields)

    def __getattr__(self, name):
        return getattr(self.client, name)

    def start(self, name, request):
        """A stream that is not read yet."""
        return getattr(self.client, name)(request)

    def next(self, stream):
        """The next delta; None at the end."""
        return next(stream, None)

    def leave(self, stream):
        """Closes a stream before its end."""
        stream.close()

    def shut(self):
        """Closes the client."""
        self.client.close()

    def read(self, name, request):
        """All deltas of a stream."""
        return list(self.start(name, request))


class Awaiting:
    """Calls of `AsyncLlamaServerClient`, each run to its end in an event loop of this shell's own."""

    kind = "async"

    def __init__(self, base_url, **fields):
        self.client = AsyncLlamaServerClient(base_url, **fields)
        self.runner = asyncio.Runner()

    def __getattr__(self, name):
        method = getattr(self.client, name)
        return lambda *args, **kwargs: self.runner.run(method(*args, **kwargs))

    def start(self, name, request):
        """A stream that is not read yet."""
        return getattr(self.client, name)(request)

    def next(self, stream):
        """The next delta; None at the end."""

        async def step():
            return await anext(stream, None)

        return self.runner.run(step())

    def leave(self, stream):
        """Closes a stream before its end."""
        self.runner.run(stream.aclose())

    def shut(self):
        """Closes the client and its event loop."""
        self.runner.run(self.client.aclose())
        self.runner.close()

    def read(self, name, request):
        """All deltas of a stream."""

        async def all_of_them():
            return [delta async for delta in self.start(name, request)]

        return self.runner.run(all_of_them())


SHELLS = (Blocking, Awaiting)


def ask(client, call):
    """What a chat says, or the ids of a text's tokens."""
    if call == "chat":
        return client.chat(ChatRequest(messages=[{"role": "user", "content": "Hello"}])).content
    return client.tokenize("x")
