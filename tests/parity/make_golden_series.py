"""Run the authors' networks of series once and keep what they give, as small arrays.

    python tests/parity/make_golden_series.py --presto FOLDER --galileo FOLDER --mdico FOLDER \
        --weights FOLDER

FOLDER are the authors' repositories; that of weights holds presto/default_model.pt and
galileo_nano/encoder.pt. Needs einops, and pytorch-metric-learning for MDiCo, whose trainer is
replaced by a plain module.
"""

import argparse
import sys
import types
from pathlib import Path

import made_series as made
import numpy as np
import torch
from made_images import weights

GOLDEN = Path(__file__).parents[1] / "golden"
KINDS = 80


def presto(folder: Path, published: Path) -> None:
    sys.path.insert(0, str(folder))
    import single_file_presto as theirs  # type: ignore[import-not-found]

    net = theirs.Presto.construct().encoder.eval()
    found = {}
    trained = torch.load(published / "presto/default_model.pt", "cpu", weights_only=True)
    trained = {k[8:]: v for k, v in trained.items() if k.startswith("encoder.")}
    fixed = ("pos_embed", "month_embed.weight")
    for name, state in (("made", weights(net.state_dict(), fixed)), ("trained", trained)):
        net.load_state_dict(state)
        found[name] = made.project(presto_vectors(net, theirs.BANDS_GROUPS_IDX))
        found[f"{name}_whole"] = presto_vectors(net, theirs.BANDS_GROUPS_IDX, 1008)
    names = [f"{k} {','.join(map(str, v.shape))}" for k, v in net.state_dict().items()]
    np.savez_compressed(GOLDEN / "presto.npz", names=names, **found)


def presto_vectors(net, groups, first=0):
    case = made.presto_case()
    add = torch.tensor([25.0, 25.0, *[0.0] * 10, -272.15, 0.0, 0.0, 0.0])
    divide = torch.tensor([25.0, 25.0, *[1.0] * 10, 35.0, 0.03, 2000.0, 50.0])
    x = (case["values"][..., :16] + add) / divide
    ndvi = (x[..., 8] - x[..., 4]) / (x[..., 8] + x[..., 4])
    x = torch.cat([x, ndvi.unsqueeze(-1)], -1)
    mask = torch.zeros_like(x)
    for number, columns in enumerate(groups.values()):
        mask[..., columns] = (~case["seen"][..., number]).float().unsqueeze(-1)
    # Greenness is there where its bands are.
    mask[..., 16] = torch.maximum(mask[..., 4], mask[..., 8])
    cover = torch.where(case["seen"][..., 9], case["values"][..., 16], 9).long()
    parts = []
    with torch.no_grad():
        for i in range(first, len(x)):
            month = (case["start"][i] + torch.arange(x.shape[1])) % 12
            parts.append(
                net(x[i : i + 1], cover[i : i + 1], case["lonlat"][i : i + 1].flip(1),
                    mask[i : i + 1], month[None])
            )  # fmt: skip
    return torch.cat(parts)


def galileo(folder: Path, published: Path) -> None:
    sys.path.insert(0, str(folder))
    import single_file_galileo as theirs  # type: ignore[import-not-found]

    sizes = {"embedding_size": 128, "depth": 4, "mlp_ratio": 4, "num_heads": 8}
    net = theirs.Encoder(max_patch_size=8, max_sequence_length=24, **sizes).eval()
    trained = torch.load(published / "galileo_nano/encoder.pt", "cpu", weights_only=True)
    fixed, found = ("pos_embed", "month_embed.weight"), {}
    for name, state in (("made", weights(net.state_dict(), fixed)), ("trained", trained)):
        net.load_state_dict(state)
        means, patches = [], []
        for kind in range(KINDS):
            case = made.galileo_case(kind)
            inputs = [case[f"{n}_x"] for n in made.GALILEO]
            masks = [(~case[f"{n}_seen"]).float() for n in made.GALILEO]
            with torch.no_grad():
                *told, _ = net(*inputs, *masks, case["months"], int(case["patch"]), 20)
                means.append(net.average_tokens(*told))
                per_patch = net.apply_mask_and_average_tokens_per_patch(*told)
            patches.append(made.project(per_patch[0].nan_to_num()))
        found[name] = made.project(torch.cat(means), 8)
        found[f"{name}_patches"] = np.concatenate(patches)
    names = [f"{k} {','.join(map(str, v.shape))}" for k, v in net.state_dict().items()]
    np.savez_compressed(GOLDEN / "galileo.npz", names=names, **found)


def mdico(folder: Path) -> None:
    trainer = types.ModuleType("pytorch_lightning")
    # What the authors' class takes of its trainer: a module that remembers its settings.
    trainer.LightningModule = type(  # type: ignore[attr-defined]
        "LightningModule", (torch.nn.Module,), {"save_hyperparameters": lambda self, **_: None}
    )
    sys.modules["pytorch_lightning"] = trainer
    models = types.ModuleType("models")
    models.__path__ = [str(folder / "code/models")]
    sys.modules["models"] = models
    single = types.ModuleType("models.single")
    single.__path__ = [str(folder / "code/models/single")]
    sys.modules["models.single"] = single
    from models.mdico import MDiCo  # type: ignore[import-not-found]
    from models.single.base_encoders import Generic_Encoder  # type: ignore[import-not-found]
    from models.single.encoders_sota import TempCNN  # type: ignore[import-not-found]

    found = {}
    for task, outputs, loss in (("classes", 3, {"name": "ce"}),
                                ("amounts", 1, {"name": "norm-mse", **made.AMOUNTS})):  # fmt: skip
        encoders = {
            name: Generic_Encoder(TempCNN(channels, **made.TEMPCNN), 16)
            for name, channels in made.SENSORS.items()
        }
        core = torch.nn.Module()
        core.layers = []  # pyright: ignore[reportArgumentType]
        core.forward = lambda x: x
        parts = dict.fromkeys(("main", "auxiliary", "contrastive", "discriminative"), 1)
        net = MDiCo(encoders, core, outputs, dict(loss), parts)
        state = weights(net.state_dict())
        found[f"names_{task}"] = [
            f"{k} {','.join(map(str, v.shape))}" for k, v in net.state_dict().items()
        ]
        net.load_state_dict(state)
        series, truth = made.mdico_case(task)
        net.train()
        batch = {"modalities": series, "target": truth if outputs > 1 else truth[:, None]}
        out = net.loss_batch(batch)
        told = net(series)
        # The other variant: the second classifier of sensors on the half that it is named for.
        first, rep = told["modalities:aux:modality_discr"]["specific"], told["modalities:rep"]
        named = 0.0
        for number, name in enumerate(made.SENSORS):
            label = torch.full((12,), number)
            second = net.modality_head_awr_irr(rep["unused"][name])
            named += float(net.criteria_modality(first[name], label)) / 4
            named += float(net.criteria_modality(second, label)) / 4
        sums = {
            part: sum(float(v) for k, v in out.items() if k.startswith(part))
            for part in ("Lmain", "Laux", "Lcon", "Ldisc")
        }
        found[task] = [
            sums["Lmain"] / 2, sums["Laux"] / 2, sums["Lcon"], sums["Ldisc"] / 2,
            named, float(out["objective"]),
        ]  # fmt: skip
    np.savez_compressed(GOLDEN / "mdico.npz", **found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for option in ("presto", "galileo", "mdico", "weights"):
        parser.add_argument(f"--{option}", type=Path, default=None)
    given = parser.parse_args()
    if given.presto:
        presto(given.presto, given.weights)
    if given.galileo:
        galileo(given.galileo, given.weights)
    if given.mdico:
        mdico(given.mdico)
