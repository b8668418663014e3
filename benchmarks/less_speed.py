"""Time and memory of LESS attention beside attention over all pairs, at 4 to 202 channels.

    python benchmarks/less_speed.py [--width 48] [--places 16]

One process, one thread, the two kinds in turns; the shortest of five rounds counts. What is timed
is one block forward and backward for one image. Memory is what autograd keeps for the way back:
with torch's fused kernel attention over all pairs keeps no scores, with the plain one (last column)
it does. Exponents are slopes of the logarithms over the last doubling of channels.
"""

import argparse
import math
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from georama.encoders.patches import Block
from georama.fusion.lowrank import grid_attention

CHANNELS = (4, 13, 50, 101, 202)


def once(block: torch.nn.Module, x: torch.Tensor) -> float:
    since = time.perf_counter()
    block(x).square().sum().backward()
    return time.perf_counter() - since


def kept_mib(block: torch.nn.Module, x: torch.Tensor, kernels: list[SDPBackend]) -> float:
    """What autograd saves, each storage counted once."""
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with (
        sdpa_kernel(kernels, set_priority=True),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
    ):
        told = block(x)
    told.sum().backward()
    return sum(sizes.values()) / 2**20


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--places", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    heads = asked.width // 16
    found: dict[str, list[tuple[float, float, float]]] = {"less": [], "full": []}
    print("channels  tokens   less ms   full ms  less MiB  full MiB  less, plain  full, plain")
    for channels in CHANNELS:
        x = torch.randn(1, channels + 1, asked.places + 1, asked.width)
        blocks = {
            kind: Block(asked.width, heads, attention=grid_attention(kind, asked.width, heads, 4))
            for kind in ("less", "full")
        }
        took = dict.fromkeys(blocks, math.inf)
        for _ in range(asked.rounds):
            for kind, block in blocks.items():
                took[kind] = min(took[kind], once(block, x))
        for kind, block in blocks.items():
            kernels = ([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH], [SDPBackend.MATH])
            fused, plain = (kept_mib(block, x, some) for some in kernels)
            found[kind].append((1e3 * took[kind], fused, plain))
        row = [found[kind][-1][i] for i in range(3) for kind in ("less", "full")]
        tokens = (channels + 1) * (asked.places + 1)
        print(
            f"{channels:8d} {tokens:7d} " + " ".join(f"{value:9.2f}" for value in row), flush=True
        )
    over = math.log((CHANNELS[-1] + 1) / (CHANNELS[-2] + 1))
    for i, what in enumerate(("time", "memory, fused kernel", "memory, plain kernel")):
        told = [f"{k} {math.log(f[-1][i] / f[-2][i]) / over:.2f}" for k, f in found.items()]
        print(f"exponent of {what}: {', '.join(told)}")
