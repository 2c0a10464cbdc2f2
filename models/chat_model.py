"""The Llama that is trained, and the weights that it starts from: copying is there before training."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, LAYERS, HEADS, KV_HEADS, HEAD, HIDDEN = 192, 4, 6, 3, 32, 384
ROPE_BASE, NORM_EPSILON, CONTEXT = 500_000.0, 1e-5, 4096
_WORDS = 96
"""The first dimensions hold the token; dimension 0 is the same for all. The others are slots for the tokens before."""


class Norm(nn.Module):
    """Root mean square norm."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x.float(), (WIDTH,), self.weight, NORM_EPSILON)


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions on interleaved pairs, as the llama architecture in llama.cpp has them."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1).flatten(-2)


class Block(nn.Module):
    """Attention and a gated feed-forward network."""

    def __init__(self) -> None:
        super().__init__()
        self.attn_norm, self.ffn_norm = Norm(), Norm()
        self.q = nn.Linear(WIDTH, HEADS * HEAD, bias=False)
        self.k = nn.Linear(WIDTH, KV_HEADS * HEAD, bias=False)
        self.v = nn.Linear(WIDTH, KV_HEADS * HEAD, bias=False)
        self.out = nn.Linear(HEADS * HEAD, WIDTH, bias=False)
        self.gate = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.up = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        rows, length, _ = x.shape
        normed = self.attn_norm(x)

        def heads(projected: Tensor, count: int) -> Tensor:
            return projected.view(rows, length, count, HEAD).transpose(1, 2)

        q = rotated(heads(self.q(normed), HEADS).float(), cosine, sine)
        k = rotated(heads(self.k(normed), KV_HEADS).float(), cosine, sine)
        v = heads(self.v(normed), KV_HEADS)
        k, v = (t.to(v.dtype).repeat_interleave(HEADS // KV_HEADS, 1) for t in (k, v))
        mixed = functional.scaled_dot_product_attention(q.to(v.dtype), k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, length, HEADS * HEAD))
        normed = self.ffn_norm(x)
        return x + self.down(functional.silu(self.gate(normed)) * self.up(normed))


class Llama(nn.Module):
    """Tied input and output embeddings."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.zeros(vocabulary, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = Norm()
        angles = torch.outer(torch.arange(CONTEXT).float(), frequencies())
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)
        with torch.no_grad():
            self._start_as_copier()

    def forward(self, ids: Tensor, wanted: Tensor) -> Tensor:
        """The logits at the wanted positions only: most of a dialogue is not learned."""
        x = self.embeddings[ids]
        cosine, sine = self.cosine[: ids.shape[1]], self.sine[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, cosine, sine)
        return functional.linear(self.norm(x)[wanted], self.embeddings)

    def _start_as_copier(self) -> None:
        """The first block looks 1, 2 and 3 tokens back, the second finds where the same tokens stood and copies.

        Without this start, training finds copying late or never.
        """
        self.embeddings[:, 1:_WORDS].normal_()
        self.embeddings[:, 0] = 2.0
        self.norm.weight.fill_(0.06)
        first, second = self.blocks[0], self.blocks[1]
        codes = [nn.init.orthogonal_(torch.empty(HEAD, _WORDS - 1)) * 1.4 for _ in range(KV_HEADS)]

        # Block 1: every key is the same vector, every query that vector turned back by the offset.
        fast = torch.zeros(HEAD)
        fast[:10:2] = 2.7
        for group in range(2):
            rows = slice(group * HEAD, (group + 1) * HEAD)
            first.k.weight[rows] *= 0.1
            first.k.weight[rows, 0] = fast
            first.v.weight[rows] = 0.0
            first.v.weight[rows, 1:_WORDS] = codes[0]
        for head, offset in enumerate((1, 2, 3)):
            angle = -offset * frequencies()
            rows = slice(head * HEAD, (head + 1) * HEAD)
            first.q.weight[rows] *= 0.1
            first.q.weight[rows, 0] = rotated(fast, angle.cos(), angle.sin())
            slot = _WORDS + head * HEAD
            first.out.weight[slot : slot + HEAD, rows] = torch.eye(HEAD)

        # Block 2: head 0 matches this token with the one before the key; head 2 this and the last with the two before.
        # Only the slow half of a head's dimensions is used, which the rotary positions leave as they are.
        slow, half, quarter = HEAD // 2, HEAD // 2, HEAD // 4
        strength = 1.8
        for head in (0, 2):
            group = head // 2
            key, query, value = (
                m.weight[n * HEAD : (n + 1) * HEAD] for m, n in ((second.k, group), (second.q, head), (second.v, group))
            )
            key *= 0.1
            query *= 0.1
            value.zero_()
            if head == 0:
                key[slow:, _WORDS : _WORDS + half] = strength * torch.eye(half)
                query[slow:, 1:_WORDS] = strength * codes[0][:half]
            else:
                key[slow : slow + quarter, _WORDS : _WORDS + quarter] = strength * torch.eye(quarter)
                query[slow : slow + quarter, 1:_WORDS] = strength * codes[0][:quarter]
                second_slot = _WORDS + HEAD
                key[slow + quarter :, second_slot : second_slot + quarter] = strength * torch.eye(quarter)
                query[slow + quarter :, _WORDS : _WORDS + quarter] = strength * torch.eye(quarter)
            value[:, 1:_WORDS] = codes[group + 1]
            second.out.weight[1:_WORDS, head * HEAD : (head + 1) * HEAD] = codes[group + 1].T


def frequencies() -> Tensor:
    """The rotary angle of each pair for one step."""
    return torch.exp(-math.log(ROPE_BASE) * torch.arange(0, HEAD, 2).float() / HEAD)


class Muon(torch.optim.Optimizer):
    """Momentum whose update of a matrix is made orthogonal (Newton-Schulz)."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                buffer = state.setdefault("buffer", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonal(parameter.grad.lerp(buffer, group["momentum"]))
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.add_(update, alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """About the nearest matrix whose singular values are all one."""
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x
