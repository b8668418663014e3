"""The one training loop: plain torch, a checkpoint that a killed run resumes from, progress.

`torchrun` starts several processes of one run; they are found in the environment. Each takes its
part of the draws of a step and the gradients are summed, so that a run ends alike on any number of
processes.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from georama.errors import DataError, UsageError
from georama.progress import progress

if TYPE_CHECKING:
    import torch

TRIAL_S, TRIAL_SHARE = 10.0, 0.03
"""How long steps are tried to learn how many fit into a budget: seconds, and share of it."""
LATE = 1.25
"""A run that was to take some minutes is ended after so many times them."""
PRECISIONS = ("auto", "bf16", "fp32")
ENTRIES = 100
"""Of a history, where the steps between them are left open."""


@dataclass(frozen=True)
class Course:
    """How a recipe is to be pretrained.

    Attributes:
        steps: Optimiser steps; None for as many as fit into the minutes.
        minutes: Of training, where the steps are left open.
        batch: Places a draw; None for what the recipe thinks best.
        accumulate: Draws a step; None for one a process.
        seed: Of initial values and draws.
        device: For example "cpu" or "cuda:0".
        precision: "bf16" computes in bfloat16 what bears it, "fp32" nothing, "auto" where the
            graphics card can.
        folder: For the checkpoint; None keeps nothing.
    """

    steps: int | None = None
    minutes: float | None = None
    batch: int | None = None
    accumulate: int | None = None
    seed: int = 0
    device: str = "cpu"
    precision: str = "auto"
    folder: Path | None = None

    @property
    def computes_in(self) -> str:
        """What the precision is on the device: "bf16" or "fp32"."""
        if self.precision != "auto":
            return self.precision
        return "bf16" if _card_takes_bf16(self.device) else "fp32"

    @property
    def loop(self) -> dict[str, Any]:
        """Its part in the arguments of `train`."""
        # What is settled by `train` alone is left to it; recipes of places know no other.
        asked = {} if self.precision == "auto" else {"mixed": self.precision == "bf16"}
        return {
            "steps": self.steps, "minutes": self.minutes, "accumulate": self.accumulate,
            "folder": self.folder, "every": None, **asked,
        }  # fmt: skip


@dataclass(frozen=True)
class Judgement:
    """How a recipe does on places that it was not trained on.

    Attributes:
        losses: By name, as in training.
        chance: What a network that knows nothing would lose, by the same names.
        pairs: Two views of the same places, row by row, which should find each other; by a name
            such as "coordinates to things".
    """

    losses: dict[str, float]
    chance: dict[str, float]
    pairs: dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]]


@dataclass(frozen=True)
class Crew:
    """The processes of one run.

    Attributes:
        rank: Of this one; rank 0 writes.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()

    def agree(self, value: float) -> float:
        """What rank 0 says."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        told: list[Any] = [value]
        dist.broadcast_object_list(told)
        return told[0]

    def mean(self, told: dict[str, float]) -> dict[str, float]:
        """The mean over the processes of named numbers; a name that some lack is zero there."""
        if self.size == 1:
            return told
        import torch.distributed as dist

        every: list[Any] = [None] * self.size
        dist.all_gather_object(every, told)
        names = dict.fromkeys(name for one in every for name in one)
        return {name: sum(one.get(name, 0.0) for one in every) / self.size for name in names}

    def share(self, module: torch.nn.Module) -> None:
        """Give all processes the values of rank 0."""
        if self.size > 1:
            import torch.distributed as dist

            for value in module.state_dict().values():
                dist.broadcast(value, src=0)

    def sum_gradients(self, module: torch.nn.Module, wrong: bool) -> bool:
        """Sum the gradients over the processes; gives whether anything went wrong in any of them.

        A parameter that no process used keeps no gradient, so that the optimiser leaves it alone.
        """
        if self.size == 1:
            return wrong
        import torch
        import torch.distributed as dist

        free = [p for p in module.parameters() if p.requires_grad]
        told = torch.tensor([float(wrong), *(float(p.grad is not None) for p in free)])
        told = told.to(free[0].device)
        flat = torch.cat([torch.zeros_like(p).ravel() if p.grad is None else p.grad.ravel()
                          for p in free])  # fmt: skip
        dist.all_reduce(told)
        dist.all_reduce(flat)
        parts = flat.split([p.numel() for p in free])
        for p, part, used in zip(free, parts, told[1:].tolist(), strict=True):
            p.grad = part.view_as(p) if used else None
        return bool(told[0] > 0)


def join() -> Crew:
    """The processes that `torchrun` started, or this one alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Crew()
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        cards = torch.cuda.device_count()
        if cards:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % cards)
        dist.init_process_group("cpu:gloo,cuda:nccl" if cards else "gloo")
    return Crew(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """End what `join` began."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def find_device(name: str = "auto") -> str:
    """The device of a name; "auto" is the graphics card of this process, or the processor.

    Raises:
        UsageError: There is no such device.
    """
    import torch

    if name == "auto":
        own = int(os.environ.get("LOCAL_RANK", "0"))
        return f"cuda:{own % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"the device “{name}” is not at hand ({str(error).splitlines()[0][:80]})",
            remedy="give --device cpu, or leave it out",
        ) from None
    return name


def check_precision(name: str, device: str) -> str:
    """The name of a precision that the device has.

    Raises:
        UsageError: There is none of this name, or the graphics card lacks it.
    """
    if name not in PRECISIONS:
        raise UsageError(f"--precision is auto, bf16 or fp32, got {name}")
    if name == "bf16" and device.startswith("cuda") and not _card_takes_bf16(device):
        raise UsageError(
            f"the graphics card of {device} does not compute in bfloat16",
            remedy="give --precision fp32, or leave it out",
        )
    return name


def _card_takes_bf16(device: str) -> bool:
    import torch

    return device.startswith("cuda") and torch.cuda.is_bf16_supported()


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
    steps: int | None,
    minutes: float | None = None,
    accumulate: int | None = None,
    samples: int = 1,
    mixed: bool | None = None,
    title: str = "Training",
    warmup: int | None = None,
    floor: float = 0.01,
    schedule: Callable[[float], float] | None = None,
    folder: Path | None = None,
    every: int | None = 200,
    fingerprint: str = "",
    report: Callable[[str], None] | None = None,
) -> list[dict[str, float]]:
    """Take `steps` optimiser steps under a warm-up and cosine schedule.

    Args:
        module: Holds the parameters; saved in the checkpoint.
        optimiser: With the peak learning rates set.
        loss_at: Named losses of draw i; they are summed. It must draw its batch from a generator
            seeded by i, and seed torch where it uses chance, so that a resumed run sees the batches
            an unbroken one would, and several processes those that one would.
        steps: In all, those of an earlier, killed run included; None for as many as fit into
            `minutes`, which the first run finds out and its checkpoint keeps.
        minutes: Of training; a run that takes a quarter more is ended before its last step.
        accumulate: Draws a step, of which the mean gradient is taken; None for one a process. The
            checkpoint keeps their number: what two processes began, one goes on with.
        samples: Places in a draw, in which the bar counts.
        mixed: Compute in bfloat16 what bears it; None for where the graphics card can.
        title: Of the progress bar.
        warmup: Steps over which the rate rises from zero; None for 100, or a tenth of fewer steps.
        floor: Share of the peak rate that is left at the end.
        schedule: Share of the peak rate by the share of steps that are taken, in place of both.
        folder: Where the checkpoint goes; None keeps nothing. Several processes share it.
        every: Steps between checkpoints and between entries of the history; None for a hundredth
            of the steps.
        fingerprint: Of the request; a checkpoint of another request is refused.
        report: Called with a line of losses at every entry of the history.

    Returns:
        Mean losses and seconds, one entry for every `every` steps.

    Raises:
        DataError: The folder holds a checkpoint of another request, or the loss is not finite.
        UsageError: Neither steps nor minutes, or draws that the processes cannot share evenly.
    """
    import torch

    crew = join()
    peaks = [group.get("peak", group["lr"]) for group in optimiser.param_groups]
    for group, peak in zip(optimiser.param_groups, peaks, strict=True):
        group["peak"] = peak
    checkpoint = folder / "checkpoint.pt" if folder else None
    done, history = 0, []
    if checkpoint and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location="cpu")
        if saved["fingerprint"] != fingerprint:
            raise DataError(
                f"{checkpoint} belongs to a run with other settings",
                remedy="give another folder, or remove it to start afresh",
            )
        module.load_state_dict(saved["module"])
        optimiser.load_state_dict(saved["optimiser"])
        done, history = saved["step"], json.loads(saved["history"])
        steps = saved.get("steps", steps)
        accumulate = saved.get("accumulate", accumulate)
    crew.share(module)  # also a barrier: rank 0 writes no checkpoint before all have read theirs
    draws = accumulate or crew.size
    if draws % crew.size:
        raise UsageError(
            f"{crew.size} processes share the {draws} draws of a step unevenly",
            remedy=f"start a number of processes that divides {draws}",
        )
    device = next(module.parameters()).device.type
    if mixed is None:
        mixed = _card_takes_bf16(device)

    def take(step: int, rate: float) -> dict[str, float]:
        """One optimiser step; gives this process's mean losses."""
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * rate
        optimiser.zero_grad(set_to_none=True)
        told: dict[str, float] = {}
        wrong = False
        for draw in range(step * draws + crew.rank, (step + 1) * draws, crew.size):
            with torch.autocast(device, torch.bfloat16, enabled=mixed):
                losses = loss_at(draw)
            total = torch.stack(list(losses.values())).sum()
            wrong |= not bool(torch.isfinite(total))
            if not wrong:
                (total / draws).backward()
            for name, value in losses.items():
                told[name] = told.get(name, 0.0) + float(value.detach()) * crew.size / draws
        if crew.sum_gradients(module, wrong):
            raise DataError(f"the loss of step {step} is not finite", remedy="lower the rate")
        optimiser.step()
        return told

    if steps is None:
        if not minutes:
            raise UsageError("a training wants steps or minutes, got neither")
        steps = _affordable(60 * minutes, module, optimiser, take, crew)
        if checkpoint and crew.rank == 0:
            _save(checkpoint, module, optimiser, 0, steps, draws, history, fingerprint)
    every = every or max(1, steps // ENTRIES)
    warmup = max(1, min(100, steps // 10) if warmup is None else warmup)
    sums: dict[str, float] = {}
    before = history[-1]["s"] if history else 0.0
    since = time.perf_counter()
    with progress(title, steps * draws * samples) as advance:
        advance(done * draws * samples)
        for step in range(done, steps):
            rise = min(1.0, (step + 1) / warmup)
            fall = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))
            told = take(step, rise * fall if schedule is None else schedule(step / steps))
            for name, value in told.items():
                sums[name] = sums.get(name, 0.0) + value
            advance(draws * samples, f"loss {sum(told.values()):.4g}")
            if (step + 1) % every and step + 1 < steps:
                continue
            count = (step % every) + 1
            entry = crew.mean({name: value / count for name, value in sums.items()})
            seconds = before + time.perf_counter() - since
            history.append({"step": step + 1, "s": seconds, **entry})
            sums = {}
            if report:
                report(" ".join(f"{k} {np.round(v, 5)}" for k, v in history[-1].items()))
            if checkpoint and crew.rank == 0:
                _save(checkpoint, module, optimiser, step + 1, steps, draws, history, fingerprint)
            if minutes and crew.agree(seconds) > LATE * 60 * minutes:
                break
    return history


def read_history(folder: Path) -> tuple[list[dict[str, float]], int, int]:
    """The history in the checkpoint of a folder, the steps that were planned, the draws a step."""
    import torch

    saved = torch.load(folder / "checkpoint.pt", weights_only=True, map_location="cpu")
    return json.loads(saved["history"]), saved["steps"], saved["accumulate"]


def _affordable(
    seconds: float,
    module: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    take: Callable[[int, float], Any],
    crew: Crew,
) -> int:
    """How many steps fit into a budget: a few are taken, and taken back."""
    module_before = copy.deepcopy(module.state_dict())
    optimiser_before = copy.deepcopy(optimiser.state_dict())
    took: list[float] = []
    since = time.perf_counter()
    while crew.agree(len(took) < 4 or sum(took) < min(TRIAL_S, TRIAL_SHARE * seconds)):
        start = time.perf_counter()
        take(len(took), 0.0)
        took.append(time.perf_counter() - start)
    module.load_state_dict(module_before)
    optimiser.load_state_dict(optimiser_before)
    # The first steps are slow: memory is taken and kernels are chosen.
    left = seconds - (time.perf_counter() - since)
    return int(crew.agree(max(1, int(left / np.median(took[2:])))))


def _save(
    path: Path,
    module: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    steps: int,
    accumulate: int,
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
            "steps": steps,
            "accumulate": accumulate,
            "history": json.dumps(history),
            "fingerprint": fingerprint,
        },
        unfinished,
    )
    unfinished.rename(path)
