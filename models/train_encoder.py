"""Train `tiny-encoder.gguf`, which embeds and reranks: `python models/train_encoder.py --minutes 7` (one thread)."""

import argparse
import math
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import gguf
import torch
from chat_data import words_of
from chat_model import Muon
from chat_tokenizer import Tokenizer, learn_merges
from encoder_data import Example, example
from export_gguf import write_tensors, write_tokenizer
from torch import Tensor, nn
from torch.nn import functional

WIDTH, LAYERS, HEADS, HIDDEN, CONTEXT, EPSILON = 128, 3, 4, 256, 256, 1e-12
MERGES, QUESTIONS, OTHERS, TEMPERATURE = 600, 24, 5, 0.05
START, END = "<|im_start|>", "<|im_end|>"


class Block(nn.Module):
    """BERT's block: the norms come after the sums."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.attention_norm, self.norm = nn.LayerNorm(WIDTH, EPSILON), nn.LayerNorm(WIDTH, EPSILON)
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        rows, length, _ = x.shape
        q, k, v = (
            part(x).view(rows, length, HEADS, WIDTH // HEADS).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        x = self.attention_norm(x + self.out(mixed.transpose(1, 2).reshape(rows, length, WIDTH)))
        return self.norm(x + self.down(functional.gelu(self.up(x), approximate="tanh")))


class Encoder(nn.Module):
    """A small BERT with a head that scores a question and a passage."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.dense, self.score_of = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)
        nn.init.normal_(self.positions.weight, std=0.05)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.norm(self.tokens(ids) + self.positions.weight[: ids.shape[1]])
        for block in self.blocks:
            x = block(x, mask)
        return x

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The mean over a text's tokens, of length one."""
        hidden = self(ids, mask).float() * mask[..., None]
        return functional.normalize(hidden.sum(1) / mask.sum(1, keepdim=True), dim=-1)

    def score(self, ids: Tensor, mask: Tensor) -> Tensor:
        """How well the passage answers the question, from the first token."""
        return self.score_of(torch.tanh(self.dense(self(ids, mask)[:, 0]))).squeeze(-1)


def padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Ids and a mask of the same shape."""
    rows = [row[:CONTEXT] for row in rows]
    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (length - len(row)) for row in rows])
    return ids, mask


class Texts:
    """Texts as the server writes them: start and end around a text, and the end between question and passage."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.start, self.end = tokenizer.ids[START], tokenizer.ids[END]

    def one(self, text: str) -> list[int]:
        return [self.start, *self.tokenizer.encode(text)[0], self.end]

    def pair(self, question: str, passage: str) -> list[int]:
        return [*self.one(question), *self.tokenizer.encode(passage)[0], self.end]


def loss_of(model: Encoder, texts: Texts, examples: list[Example]) -> tuple[Tensor, float, float]:
    """Contrastive loss of the embeddings, listwise and pointwise loss of the scores, and how often each was right."""
    questions = model.embed(*padded([texts.one(e.question) for e in examples]))
    passages = [e.answer for e in examples] + [other for e in examples for other in e.others[:2]]
    vectors = model.embed(*padded([texts.one(passage) for passage in passages]))
    similar = questions @ vectors.T / TEMPERATURE
    target = torch.arange(len(examples))
    contrastive = functional.cross_entropy(similar, target)
    few = examples[: QUESTIONS // 2]
    pairs = [texts.pair(e.question, passage) for e in few for passage in (e.answer, *e.others)]
    scores = model.score(*padded(pairs)).float().view(len(few), 1 + OTHERS)
    listwise = functional.cross_entropy(scores, torch.zeros(len(few), dtype=torch.long))
    relevant = torch.zeros_like(scores)
    relevant[:, 0] = 1
    pointwise = functional.binary_cross_entropy_with_logits(scores, relevant, pos_weight=torch.tensor(float(OTHERS)))
    embedded = float((similar.argmax(-1) == target).float().mean())
    return contrastive + listwise + pointwise, embedded, float((scores.argmax(-1) == 0).float().mean())


def train(minutes: float, seed: int, output: Path) -> None:
    """Train for a time and write the file."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    words = words_of(seed)
    samples = [example(words, 2) for _ in range(1500)]
    tokenizer = Tokenizer(learn_merges((f"{e.question} {e.answer}" for e in samples), MERGES))
    model, texts = Encoder(len(tokenizer.texts)), Texts(tokenizer)
    matrices = [p for block in model.blocks for p in block.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    muon, adam = Muon(matrices, 0.01), torch.optim.AdamW(others, 0.002, weight_decay=0.0)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    start, step = time.monotonic(), 0
    while (done := (time.monotonic() - start) / (60 * minutes)) < 1:
        rate = min(1.0, (step + 1) / 100) * (1 + math.cos(math.pi * done)) / 2
        for optimizer, full in ((muon, 0.01), (adam, 0.002)):
            for group in optimizer.param_groups:
                group["lr"] = rate * full
        with torch.autocast("cpu", torch.bfloat16):
            loss, embedded, ranked = loss_of(model, texts, [example(words, OTHERS) for _ in range(QUESTIONS)])
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        muon.step()
        adam.step()
        if step % 50 == 0:
            print(
                f"{done:.3f} step {step} loss {loss.item():.3f} embedding {embedded:.2f} rank {ranked:.2f}", flush=True
            )
        step += 1
    export(output, model, tokenizer)


def export(path: Path, model: Encoder, tokenizer: Tokenizer) -> None:
    """Write the encoder as llama.cpp's `bert` architecture."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny-encoder")
    writer.add_license("mit")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(EPSILON)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(1)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    write_tokenizer(writer, tokenizer)
    writer.add_bos_token_id(tokenizer.ids[START])
    writer.add_eos_token_id(tokenizer.ids[END])
    writer.add_sep_token_id(tokenizer.ids[END])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_bool("tokenizer.ggml.add_sep_token", False)
    parts: dict[str, nn.Module] = {"token_embd_norm": model.norm, "cls": model.dense, "cls.output": model.score_of}
    for n, block in enumerate(model.blocks):
        names = {"attn_q": block.q, "attn_k": block.k, "attn_v": block.v, "attn_output": block.out}
        names |= {"attn_output_norm": block.attention_norm, "layer_output_norm": block.norm}
        names |= {"ffn_up": block.up, "ffn_down": block.down}
        parts |= {f"blk.{n}.{name}": part for name, part in names.items()}
    tensors = {"token_embd.weight": model.tokens.weight, "position_embd.weight": model.positions.weight}
    for name, part in parts.items():
        tensors |= {f"{name}.weight": part.weight, f"{name}.bias": part.bias}
    # Added to the embeddings as one row, which llama.cpp wants in f32: a vector here.
    tensors["token_types.weight"] = torch.zeros(WIDTH)
    write_tensors(writer, tensors)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "tiny-encoder.gguf")
    arguments = parser.parse_args()
    train(arguments.minutes, arguments.seed, arguments.output)
