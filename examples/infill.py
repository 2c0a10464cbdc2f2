"""Fill-in-the-middle for code, in both frameworks. Needs a server with a code model that supports it:

python -m examples.infill http://localhost:8080
"""

import sys

from examples.servers import needs
from langchain_llamacpp_server import LlamaServerLLM
from llamaindex_llamacpp_server import LlamaServer

PREFIX, SUFFIX = "def mean(numbers):\n    total = ", "\n    return total / len(numbers)\n"
OTHER_FILES = [("helpers.py", "def add_up(numbers):\n    return sum(numbers)\n")]


def main(base_url: str) -> None:
    llm = LlamaServerLLM(base_url=base_url, suffix=SUFFIX, max_tokens=30, temperature=0)
    print(PREFIX, end="")
    for piece in llm.stream(PREFIX, input_extra=OTHER_FILES):
        print(piece, end="", flush=True)
    print(SUFFIX)

    coder = LlamaServer(base_url=base_url, max_tokens=30, temperature=0)
    print(PREFIX + coder.complete(PREFIX, suffix=SUFFIX, input_extra=OTHER_FILES).text + SUFFIX)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        needs("a server with a fill-in-the-middle model: python -m examples.infill http://localhost:8080")
    main(*sys.argv[1:])
