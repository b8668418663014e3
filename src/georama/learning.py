"""The one training loop: plain torch, a checkpoint that a killed run resumes from, progress."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from georama.errors import DataError
from georama.progress import progress

if TYPE_CHECKING:
    import torch


def adamw(module: torch.nn.Module, rate: float, decay: float) -> torch.optim.AdamW:
    """AdamW that shrinks matrices and leaves biases, norms and temperatures alone.

    Args:
        module: Its trainable parameters are optimised.
        rate: Peak learning rate.
        decay: Weight decay of parameters with two dimensions or more.
    """
    import torch

    free = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in free if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in free if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate)


def train(
    module: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    loss_at: Callable[[int], dict[str, torch.Tensor]],
    *,
    steps: int,
    title: str = "Training",
    warmup: int = 100,
    floor: float = 0.01,
    folder: Path | None = None,
    every: int = 200,
    fingerprint: str = "",
    report: Callable[[str], None] | None = None,
) -> list[dict[str, float]]:
    """Take `steps` optimiser steps under a warm-up and cosine schedule.

    Args:
        module: Holds the parameters; saved in the checkpoint.
        optimiser: With the peak learning rates set.
        loss_at: Named losses of step i; they are summed. It must draw its batch from a generator
            seeded by i, so that a resumed run sees the batches an unbroken one would.
        steps: In all, those of an earlier, killed run included.
        title: Of the progress bar.
        warmup: Steps over which the rate rises from zero.
        floor: Share of the peak rate that is left at the end.
        folder: Where the checkpoint goes; None keeps nothing.
        every: Steps between checkpoints and between entries of the history.
        fingerprint: Of the request; a checkpoint of another request is refused.
        report: Called with a line of losses at every entry of the history.

    Returns:
        Mean losses and seconds, one entry for every `every` steps.

    Raises:
        DataError: The folder holds a checkpoint of another request, or the loss is not finite.
    """
    import torch

    done, history = 0, []
    checkpoint = folder / "checkpoint.pt" if folder else None
    if checkpoint and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["fingerprint"] != fingerprint:
            raise DataError(
                f"{checkpoint} belongs to a run with other settings",
                remedy="give another folder, or remove it to start afresh",
            )
        module.load_state_dict(saved["module"])
        optimiser.load_state_dict(saved["optimiser"])
        done, history = saved["step"], json.loads(saved["history"])
    peaks = [group.get("peak", group["lr"]) for group in optimiser.param_groups]
    for group, peak in zip(optimiser.param_groups, peaks, strict=True):
        group["peak"] = peak
    sums: dict[str, float] = {}
    since = time.perf_counter()
    with progress(title, steps) as advance:
        advance(done)
        for step in range(done, steps):
            rise = min(1.0, (step + 1) / max(1, warmup))
            fall = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * rise * fall
            losses = loss_at(step)
            total = torch.stack(list(losses.values())).sum()
            if not torch.isfinite(total):
                raise DataError(f"the loss of step {step} is not finite", remedy="lower the rate")
            optimiser.zero_grad(set_to_none=True)
            total.backward()
            optimiser.step()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
            advance(1)
            if (step + 1) % every == 0 or step + 1 == steps:
                count = (step % every) + 1
                entry = {name: value / count for name, value in sums.items()}
                history.append({"step": step + 1, "s": time.perf_counter() - since, **entry})
                sums = {}
                if report:
                    report(" ".join(f"{k} {np.round(v, 5)}" for k, v in history[-1].items()))
                if checkpoint:
                    _save(checkpoint, module, optimiser, step + 1, history, fingerprint)
    return history


def _save(
    path: Path,
    module: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    history: list[dict[str, float]],
    fingerprint: str,
) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    torch.save(
        {
            "module": module.state_dict(),
            "optimiser": optimiser.state_dict(),
            "step": step,
            "history": json.dumps(history),
            "fingerprint": fingerprint,
        },
        unfinished,
    )
    unfinished.rename(path)
