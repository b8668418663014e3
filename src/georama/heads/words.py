"""Words about images: pieces of words, and a transformer that reads, contrasts and writes captions.

The captioner is that of J. Yu et al. 2022, arXiv 2205.01917 (CoCa), in the form that UrbanCLIP
trains from scratch: blocks whose attention and gated layers run side by side, one key and value
for all heads (N. Shazeer 2019, arXiv 1911.02150), rotary positions (J. Su et al. 2021, arXiv
2104.09864), SwiGLU (N. Shazeer 2020, arXiv 2002.05202) and norms without a bias.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from georama.errors import DataError

PAD, START, END = 0, 1, 2
BYTES = 256
FIRST_MERGE = 3 + BYTES
_CHUNKS = re.compile(r" ?[^\W\d_]+| ?\d| ?[^\w\s]+|\s+|_+")


@dataclass(frozen=True)
class Pieces:
    """Pieces of words that were learned from captions: any text to numbers and back.

    Pairs of bytes that stand together most often are merged, again and again (R. Sennrich et al.
    2016, arXiv 1508.07909). Whatever was never seen is spelled in bytes, so that nothing is
    unknown. Numbers 0, 1 and 2 are padding, start and end; 3 to 258 are the bytes.

    Attributes:
        merges: Pairs of piece numbers, the first merged first; pair i makes the piece 259 + i.
    """

    merges: tuple[tuple[int, int], ...]
    _spelled: ClassVar[list[bytes]]
    _ranks: ClassVar[dict[tuple[int, int], int]]
    _known: ClassVar[dict[str, list[int]]]

    def __post_init__(self) -> None:
        spelled = [b""] * 3 + [bytes([byte]) for byte in range(BYTES)]
        for a, b in self.merges:
            spelled.append(spelled[a] + spelled[b])
        object.__setattr__(self, "_spelled", spelled)
        object.__setattr__(self, "_ranks", {pair: rank for rank, pair in enumerate(self.merges)})
        object.__setattr__(self, "_known", {})

    def __len__(self) -> int:
        return FIRST_MERGE + len(self.merges)

    @classmethod
    def learn(cls, captions: Iterable[str], most: int = 20_000) -> Pieces:
        """Learn from captions until there are `most` pieces or no pair stands twice.

        Of pairs that are equally often, the one with the smaller numbers is merged.
        """
        counts = Counter(chunk for text in captions for chunk in _CHUNKS.findall(text))
        words = [[byte + 3 for byte in chunk.encode()] for chunk in counts]
        often = list(counts.values())
        pairs: Counter[tuple[int, int]] = Counter()
        homes: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        for i, word in enumerate(words):
            for pair in pairwise(word):
                pairs[pair] += often[i]
                homes[pair].add(i)
        # Counts change while pairs wait in the heap: one that is out of date goes in once more.
        heap = [(-count, pair) for pair, count in pairs.items()]
        heapify(heap)
        merges: list[tuple[int, int]] = []
        while heap and FIRST_MERGE + len(merges) < most:
            count, best = heappop(heap)
            if -count != pairs[best]:
                heappush(heap, (-pairs[best], best))
                continue
            if -count < 2:
                break
            new = FIRST_MERGE + len(merges)
            merges.append(best)
            grown = set()
            for i in homes.pop(best):
                old = words[i]
                words[i] = _merged(old, best, new)
                for pair in pairwise(old):
                    pairs[pair] -= often[i]
                for pair in pairwise(words[i]):
                    pairs[pair] += often[i]
                    homes[pair].add(i)
                    if new in pair:
                        grown.add(pair)
            for pair in grown:
                heappush(heap, (-pairs[pair], pair))
        return cls(tuple(merges))

    def encode(self, captions: Sequence[str], length: int) -> NDArray[np.int64]:
        """Numbers (n, length) with start and end, padded; what is longer loses its tail."""
        rows = np.full((len(captions), length), PAD, dtype=np.int64)
        for row, text in zip(rows, captions, strict=True):
            pieces = [p for chunk in _CHUNKS.findall(text) for p in self._split(chunk)]
            told = [START, *pieces[: length - 2], END]
            row[: len(told)] = told
        return rows

    def decode(self, numbers: Sequence[int] | NDArray[np.integer]) -> str:
        """The text of a row of numbers, up to its end."""
        spelled = bytearray()
        for number in numbers:
            if number == END:
                break
            spelled += self._spelled[number]
        return spelled.decode(errors="replace")

    def to_json(self) -> str:
        """The merges as JSON."""
        return json.dumps(self.merges)

    @classmethod
    def from_json(cls, text: str) -> Pieces:
        """Read what `to_json` wrote."""
        return cls(tuple((int(a), int(b)) for a, b in json.loads(text)))

    def _split(self, chunk: str) -> list[int]:
        if chunk in self._known:
            return self._known[chunk]
        word = [byte + 3 for byte in chunk.encode()]
        while len(word) > 1:
            found = [self._ranks.get(pair, len(self)) for pair in pairwise(word)]
            first = min(found)
            if first == len(self):
                break
            word = _merged(word, self.merges[first], FIRST_MERGE + first)
        self._known[chunk] = word
        return word


def _merged(word: list[int], pair: tuple[int, int], new: int) -> list[int]:
    made: list[int] = []
    for piece in word:
        if made and (made[-1], piece) == pair:
            made[-1] = new
        else:
            made.append(piece)
    return made


def rotated(x: Tensor) -> Tensor:
    """Vectors (..., n, d) turned by their position, so that a product tells how far two lie apart.

    Number i and number i + d/2 are turned together, at 10,000^(-2i/d) radians a position.
    """
    n, d = x.shape[-2:]
    at = torch.arange(n, device=x.device, dtype=x.dtype)
    speed = 1e4 ** (-torch.arange(0, d, 2, device=x.device, dtype=x.dtype) / d)
    angle = (at[:, None] * speed).repeat(1, 2)
    a, b = x.chunk(2, dim=-1)
    return x * angle.cos() + torch.cat([-b, a], dim=-1) * angle.sin()


class Gate(nn.Module):
    """SwiGLU: the second half of the numbers, after a SiLU, lets the first half pass."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., 2 d) to (..., d)."""
        value, gate = x.chunk(2, dim=-1)
        return F.silu(gate) * value


class CausalBlock(nn.Module):
    """Attention to what came before, beside gated layers, both added: (b, n, width) to the same.

    Args:
        width: Of a token.
        head_width: Of a head.
        heads: Questions a token asks; they share one key and one value.
        ratio: Width of the gated layers, as a multiple of the width.
    """

    def __init__(self, width: int, head_width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads, inner = heads, width * ratio
        self.parts = [heads * head_width, head_width, head_width, 2 * inner]
        self.norm = nn.LayerNorm(width, bias=False)
        self.fused_attn_ff_proj = nn.Linear(width, sum(self.parts), bias=False)
        self.attn_out = nn.Linear(heads * head_width, width, bias=False)
        self.ff_out = nn.Sequential(Gate(), nn.Linear(inner, width, bias=False))

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Tokens after the block; `seen` (b, n, n) says who may look at whom of those before."""
        n = x.shape[1]
        q, k, v, inner = self.fused_attn_ff_proj(self.norm(x)).split(self.parts, dim=-1)
        q = rotated(q.unflatten(-1, (self.heads, -1)).transpose(1, 2))
        before = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
        mask = before if seen is None else before & seen[:, None]
        mixed = _shared_attention(q, rotated(k), v, mask)
        return x + self.attn_out(mixed) + self.ff_out(inner)


class Lookup(nn.Module):
    """Questions that tokens put to others, with one key and value for all heads.

    Args:
        width: Of the tokens that ask.
        head_width: Of a head.
        heads: Questions a token asks.
        context_width: Of the tokens that are asked, which then get a norm; None leaves them as
            they are, of the width of those that ask.
        ratio: Width of gated layers beside the attention, as a multiple of the width; 0 has none.
    """

    def __init__(
        self,
        width: int,
        head_width: int,
        heads: int,
        *,
        context_width: int | None = None,
        ratio: int = 0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, bias=False)
        self.context_norm = nn.LayerNorm(context_width, bias=False) if context_width else None
        self.to_q = nn.Linear(width, heads * head_width, bias=False)
        self.to_kv = nn.Linear(context_width or width, 2 * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, width, bias=False)
        self.ff = None
        if ratio:
            self.ff = nn.Sequential(
                nn.Linear(width, 2 * ratio * width, bias=False),
                Gate(),
                nn.Linear(ratio * width, width, bias=False),
            )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """What (b, n, width) hear from (b, m, context_width): (b, n, width), not yet added."""
        x = self.norm(x)
        if self.context_norm is not None:
            context = self.context_norm(context)
        q = self.to_q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.to_kv(context).chunk(2, dim=-1)
        heard = self.to_out(_shared_attention(q, k, v))
        return heard if self.ff is None else heard + self.ff(x)


def _shared_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Queries (b, h, n, d) over one key and value (b, m, d) of all heads: (b, n, h d)."""
    shape = (*q.shape[:2], *k.shape[1:])
    k, v = k[:, None].expand(shape), v[:, None].expand(shape)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class Captioner(nn.Module):
    """Reads captions and images into one space, and writes captions of images.

    Args:
        tokens: Pieces of words.
        width: Of a token.
        read_depth: Blocks that read words alone.
        write_depth: Blocks that read words and look at the image.
        head_width: Of a head.
        heads: Of each attention.
        ratio: Width of gated layers, as a multiple of the width.
        image_width: Of a token of the image.
        queries: What the image is summed up into for writing; one more is for the contrast.
        shared_width: Of the space of captions and images.
    """

    def __init__(
        self,
        tokens: int,
        *,
        width: int = 512,
        read_depth: int = 6,
        write_depth: int = 6,
        head_width: int = 64,
        heads: int = 8,
        ratio: int = 4,
        image_width: int = 1024,
        queries: int = 256,
        shared_width: int | None = None,
    ) -> None:
        super().__init__()
        shared = shared_width or width
        self.token_emb = nn.Embedding(tokens, width)
        self.text_cls_token = nn.Parameter(torch.randn(width))
        self.img_queries = nn.Parameter(torch.randn(queries + 1, width))
        self.img_attn_pool = Lookup(width, head_width, heads, context_width=image_width)
        self.img_attn_pool_norm = nn.LayerNorm(width, bias=False)
        self.text_cls_norm = nn.LayerNorm(width, bias=False)
        self.img_to_latents = nn.Linear(width, shared, bias=False)
        self.text_to_latents = nn.Linear(width, shared, bias=False)
        self.temperature = nn.Parameter(torch.ones(1))
        self.unimodal_layers = nn.ModuleList(
            CausalBlock(width, head_width, heads, ratio) for _ in range(read_depth)
        )
        self.multimodal_layers = nn.ModuleList(
            nn.ModuleList(
                [
                    CausalBlock(width, head_width, heads, ratio),
                    Lookup(width, head_width, heads, ratio=ratio),
                ]
            )
            for _ in range(write_depth)
        )
        self.last_norm = nn.LayerNorm(width, bias=False)
        nn.init.normal_(self.token_emb.weight, std=0.02)

    def read(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of pieces (b, n) to one vector a caption (b, width) and its tokens (b, n, width).

        The vector is that of a token after the last, which does not look at padding.
        """
        b, n = words.shape
        last = self.text_cls_token.expand(b, 1, -1)
        x = torch.cat([self.token_emb(words), last], dim=1)
        seen = torch.ones(b, n + 1, n + 1, dtype=torch.bool, device=words.device)
        seen[:, -1, :-1] = words != PAD
        for block in self.unimodal_layers:
            x = block(x, seen)
        return self.text_cls_norm(x[:, -1]), x[:, :-1]

    def see(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of images (b, m, image_width) to one vector (b, width) and a sum (b, q, width)."""
        queries = self.img_queries.expand(len(image), -1, -1)
        summed = self.img_attn_pool_norm(self.img_attn_pool(queries, image))
        return summed[:, 0], summed[:, 1:]

    def write(self, tokens: Tensor, summed: Tensor) -> Tensor:
        """Logits of the next piece (b, n, pieces), of tokens that `read` and images `see` gave."""
        for block, look in self.multimodal_layers:  # type: ignore[misc]
            tokens = block(tokens)
            tokens = tokens + look(tokens, summed)
        return self.last_norm(tokens) @ self.token_emb.weight.T

    def forward(self, words: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, and the vectors of captions and images (b, shared_width) in their space."""
        caption, tokens = self.read(words)
        seen, summed = self.see(image)
        return (
            self.write(tokens, summed),
            self.text_to_latents(caption),
            self.img_to_latents(seen),
        )

    @torch.no_grad()
    def tell(self, image: Tensor, length: int) -> Tensor:
        """The likeliest next piece, again and again: pieces (b, length) of images' tokens."""
        summed = self.see(image)[1]
        words = torch.full((len(image), 1), START, device=image.device)
        ended = torch.zeros(len(image), dtype=torch.bool, device=image.device)
        while words.shape[1] < length and not ended.all():
            logits = self.write(self.read(words)[1], summed)[:, -1]
            logits[:, [PAD, START]] = -torch.inf
            following = torch.where(ended, PAD, logits.argmax(1))
            words = torch.cat([words, following[:, None]], dim=1)
            ended |= following == END
        return words[:, 1:]


def of_authors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the authors' class under the names of `Captioner`.

    Their norms call the weight gamma and carry a bias that is always 0, residual blocks are
    wrapped once more, and the output matrix is that of the pieces. Tensors of the image encoder
    are left out: it is whatever network the authors' class was given.
    """
    found = {}
    for key, value in tensors.items():
        if key.endswith((".beta", ".inv_freq", "to_logits.1.weight")):
            continue
        if key.startswith("img_encoder."):
            continue
        name = key.replace(".fn.", ".").replace(".gamma", ".weight")
        name = name.replace("_latents.to_latents", "_latents").replace("to_logits.0", "last_norm")
        found[name] = value
    if "token_emb.weight" not in found:
        raise DataError("weights of UrbanCLIP hold token_emb.weight, these do not")
    return found
