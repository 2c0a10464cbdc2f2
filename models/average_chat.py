"""The mean of two chat models: `python models/average_chat.py one.gguf other.gguf --output mean.gguf` (torch, gguf).

For a model and one that was trained on from it: the mean keeps what the first did well, and has what the second
learned.
"""

import argparse
from pathlib import Path

import torch
from chat_corpus import TEMPLATE_PATH
from chat_model import Llama
from export_gguf import export_chat, load_chat, load_tokenizer


def average(one: Path, other: Path, output: Path) -> None:
    """Write the mean of two models with the same tokens."""
    tokenizer = load_tokenizer(one)
    mean, second = (Llama(len(tokenizer.texts)) for _ in range(2))
    load_chat(one, mean)
    load_chat(other, second)
    with torch.no_grad():
        for weights, others in zip(mean.parameters(), second.parameters(), strict=True):
            weights.copy_((weights + others) / 2)
    export_chat(output, mean, tokenizer, TEMPLATE_PATH.read_text(encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("one", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    average(given.one, given.other, given.output)
