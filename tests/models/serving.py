"""Serve a model file with the embedded server, in a child process, so that a crash is a failed test and not the end."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

_CHILD = """
import json, sys, time
import xllamacpp
options = json.loads(sys.argv[1])
params = xllamacpp.CommonParams()
params.model.path = options["model"]
params.mmproj.path = options["mmproj"] or ""
params.n_ctx = options["ctx_size"]
params.n_parallel = options["parallel"]
params.port = 0
params.cpuparams.n_threads = 1
params.warmup = False
params.embedding = options["embeddings"] or options["reranking"]
if options["embeddings"]:
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
if options["reranking"]:
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
server = xllamacpp.Server(params)
print("LISTENING", server.listening_address, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def serving(
    model: Path,
    *,
    ctx_size: int = 4096,
    parallel: int = 1,
    embeddings: bool = False,
    reranking: bool = False,
    mmproj: Path | None = None,
) -> Iterator[str]:
    """The base URL of a server that answers from `model` until the block ends."""
    options = {
        "model": str(model),
        "ctx_size": ctx_size,
        "parallel": parallel,
        "embeddings": embeddings,
        "reranking": reranking,
        "mmproj": str(mmproj) if mmproj else None,
    }
    log = Path(model).with_suffix(".log")
    with log.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert child.stdin and child.stdout
        try:
            for line in child.stdout:
                if line.startswith(b"LISTENING "):
                    base_url = line.split()[1].decode()
                    break
            else:
                raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")
            deadline = time.monotonic() + 30
            while httpx.get(f"{base_url}/health").status_code != 200:
                assert time.monotonic() < deadline, "the server did not become ready"
                time.sleep(0.02)
            yield base_url
        finally:
            child.stdin.close()
            child.kill()
            child.wait()
            child.stdout.close()
