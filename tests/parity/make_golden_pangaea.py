"""Run PANGAEA's own functions once and keep what they give, as small arrays.

    python tests/parity/make_golden_pangaea.py FOLDER

FOLDER holds VMarsocci/pangaea-bench, whose licence (GPL-3) lets us compare with it and keep what it
computed. Batch norm stands for its synchronised kind, which gives the same on one processor.
"""

import argparse
import copy
import logging
import sys
import types
from pathlib import Path
from typing import Any

import made_images
import made_pangaea as made
import numpy as np
import torch
from make_golden_images import empty
from torch import nn

GOLDEN = Path(__file__).parents[1] / "golden"


def keys(module: nn.Module) -> np.ndarray:
    state = module.state_dict()
    return np.array([f"{k} {','.join(map(str, v.shape))}" for k, v in state.items()])


class Still(nn.Module):
    """An encoder whose maps are given."""

    output_layers, output_dim = range(4), made.UPER["widths"]
    pyramid_output = multi_temporal = multi_temporal_output = False

    def forward(self, _: Any) -> list[torch.Tensor]:
        return made.levels()


class Ramp:
    """A network whose answer tells where in its window a pixel lay."""

    def forward(self, image: dict, output_shape: Any) -> torch.Tensor:
        return image["optical"][:, :2, 0] * made.ramp()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    sys.path.insert(0, str(parser.parse_args().folder))
    for name in ("wandb", "gdown", "tqdm"):
        empty(name)
    sys.modules["tqdm"].tqdm = lambda rows, **_: rows  # pyright: ignore[reportAttributeAccessIssue]
    engine = types.ModuleType("pangaea.engine.data_preprocessor")
    engine.Preprocessor = object  # pyright: ignore[reportAttributeAccessIssue]
    sys.modules["pangaea.engine.data_preprocessor"] = engine
    nn.SyncBatchNorm = nn.BatchNorm2d  # pyright: ignore[reportAttributeAccessIssue]
    from pangaea.decoders.ltae import LTAE2d  # pyright: ignore[reportMissingImports]
    from pangaea.decoders.upernet import SegUPerNet  # pyright: ignore[reportMissingImports]
    from pangaea.engine.evaluator import (  # pyright: ignore[reportMissingImports]
        Evaluator,
        SegEvaluator,
    )
    from pangaea.utils import subset_sampler  # pyright: ignore[reportMissingImports]

    kept: dict[str, Any] = {}
    # Its table has what is told by row and the truth by column.
    asked = types.SimpleNamespace(valid_class_indices=list(range(made.CLASSES)))
    told = SegEvaluator.compute_metrics(asked, torch.from_numpy(made.table().T).float())
    kept.update({f"score_{name}": np.array(value) for name, value in told.items()})

    for side in made.SIDES:
        image = {"optical": copy.deepcopy(made.image(side))}
        merged = Evaluator.sliding_inference(Ramp(), image, made.WINDOW)
        kept[f"window_{side[0]}_{side[1]}"] = merged.numpy()

    samples = [{"target": torch.from_numpy(one)} for one in made.truth()]
    some: Any = type("Samples", (list,), {"num_classes": made.CLASSES, "ignore_index": -1})(samples)
    shares = subset_sampler.calculate_class_distributions(some)
    log = logging.getLogger()
    kept["bins"] = subset_sampler.bin_class_distributions(shares, 3, log)
    means = made.amounts().reshape(20, -1).mean(1)
    kept["amount_bins"] = subset_sampler.bin_regression_distributions(means, 3, log)

    fixed = ("num_batches_tracked", "running_var")
    net = SegUPerNet(Still(), made.CLASSES, False, made.UPER["width"])
    net.load_state_dict(made_images.weights(net.state_dict(), fixed))
    net.eval()
    with torch.no_grad():
        kept["upernet"] = net({"optical": torch.zeros(2, 1, 1, 24, 32)}).numpy()
    kept["upernet_names"] = keys(net)

    width = made.LTAE["width"]
    light = LTAE2d(width, n_head=made.LTAE["heads"], mlp=[width, width], d_model=width,
                   positional_encoding=False)  # fmt: skip
    light.load_state_dict(made_images.weights(light.state_dict(), fixed))
    light.eval()
    with torch.no_grad():
        kept["ltae"] = light(made.series()).numpy()
        seen = torch.tensor([[True, True, False], [True, False, True]])
        kept["ltae_seen"] = light(made.series(), pad_mask=~seen).numpy()
    kept["ltae_names"] = keys(light)
    np.savez_compressed(GOLDEN / "pangaea.npz", **kept)
    print({name: value.shape for name, value in kept.items()})
