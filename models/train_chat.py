"""Train `tiny-chat.gguf`: `python models/train_chat.py --minutes 40` (needs torch, gguf and jinja2; one thread)."""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from chat_corpus import TEMPLATE_PATH, clean, dialogue, encode, rendered
from chat_data import words_of
from chat_model import Llama, Muon
from chat_tokenizer import Tokenizer, learn_merges
from export_gguf import export_chat, load_chat, load_tokenizer
from torch.nn import functional

MERGES, BATCH_TOKENS, LONGEST, LONGEST_AT_FIRST = 700, 4096, 704, 352
MUON_RATE, ADAM_RATE, FLAT, SHORT = 0.012, 0.002, 0.35, 0.7
Batch = tuple[torch.Tensor, torch.Tensor]


class Batches:
    """Dialogues of about the same length side by side: no packing, so nothing is copied from a neighbour."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self.tokenizer = tokenizer
        self.words = words_of(seed)
        self.longest = LONGEST_AT_FIRST

    def __iter__(self) -> Iterator[Batch]:
        while True:
            pool = sorted(self._rows(3000), key=lambda row: len(row[0]))
            batches = []
            while pool:
                count = max(1, BATCH_TOKENS // len(pool[-1][0]))
                batches.append(pool[-count:])
                del pool[-count:]
            self.words.rng.shuffle(batches)
            yield from map(self._batch, batches)

    def _rows(self, count: int) -> list[tuple[list[int], list[float]]]:
        rows = (encode(rendered(dialogue(self.words)), self.tokenizer) for _ in range(count))
        return [row for row in rows if len(row[0]) <= self.longest]

    def _batch(self, rows: list[tuple[list[int], list[float]]]) -> Batch:
        length = max(len(ids) for ids, _ in rows)
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        weights = torch.zeros(len(rows), length)
        for n, (row, learned) in enumerate(rows):
            ids[n, : len(row)] = torch.tensor(row)
            weights[n, : len(row)] = torch.tensor(learned)
        return ids, weights


def train(minutes: float, seed: int, output: Path, start_from: Path | None) -> None:
    """Train for a time, with a learning rate that falls to nothing at its end, and write the file.

    Training on from a written file is a second run at half of the rate, with other dialogues.
    """
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    words = words_of(seed)
    tokenizer = (
        load_tokenizer(start_from)
        if start_from
        else Tokenizer(learn_merges((clean(rendered(dialogue(words))) for _ in range(4000)), MERGES))
    )
    model = Llama(len(tokenizer.texts))
    if start_from:
        load_chat(start_from, model)
    scale, flat = (0.5, 0.0) if start_from else (1.0, FLAT)
    matrices = [p for block in model.blocks for p in block.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    muon = Muon(matrices, MUON_RATE)
    adam = torch.optim.AdamW(others, ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    print(
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(tokenizer.texts)} tokens",
        flush=True,
    )
    start, seen, right, total = time.monotonic(), 0, 0.0, 0.0
    batches = Batches(tokenizer, seed + 1)
    for step, (ids, weights) in enumerate(batches):
        done = (time.monotonic() - start) / (60 * minutes)
        if done >= 1:
            break
        if start_from or done > SHORT:
            batches.longest = LONGEST
        rate = scale * min(1.0, (step + 1) / 50, (1 - done) / (1 - flat))
        for optimizer, full in ((muon, MUON_RATE), (adam, ADAM_RATE)):
            for group in optimizer.param_groups:
                group["lr"] = rate * full
        wanted = weights[:, 1:] > 0
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(ids[:, :-1], wanted)
        target, weight = ids[:, 1:][wanted], weights[:, 1:][wanted]
        losses = functional.cross_entropy(logits.float(), target, reduction="none")
        loss = (losses * weight).sum() / weight.sum()
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        muon.step()
        adam.step()
        seen += ids.numel()
        right = 0.95 * right + float(((logits.argmax(-1) == target) * weight).sum() / weight.sum())
        total = 0.95 * total + 1
        if step % 50 == 0:
            speed = seen / (time.monotonic() - start)
            print(
                f"{done:.3f} step {step} loss {loss.item():.3f} right {right / total:.4f} {speed:.0f} tokens/s",
                flush=True,
            )
        if step % 250 == 249:
            export_chat(output, model, tokenizer, TEMPLATE_PATH.read_text(encoding="utf-8"))
    export_chat(output, model, tokenizer, TEMPLATE_PATH.read_text(encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "tiny-chat.gguf")
    parser.add_argument("--start-from", type=Path, help="a file of an earlier run, to train on")
    arguments = parser.parse_args()
    train(arguments.minutes, arguments.seed, arguments.output, arguments.start_from)
