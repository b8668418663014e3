"""Pretrain FLORO and LESS ViT on small real sets, and score what they tell of held-out places.

    python benchmarks/masked_sensors.py FOLDER_OF_SAMPLES --recipe floro --steps 1500
    python benchmarks/masked_sensors.py FOLDER_OF_SAMPLES --recipe less_vit --steps 600

Chips of three sets of Sentinel-1 and 2 and elevation, of 64 px for FLORO and of 32 px for LESS
ViT, whose tokens are as many times more as there are bands; whole places are held out. Scores
are mean squared errors of hidden pixels in units of the spread of each band; beside them what two
simple guesses score: the mean of training, and the mean of what is left of the band in the chip.
"""

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np
import rasterio
import torch
from pyproj import Transformer

from georama.bands import SENSORS
from georama.chips import Chips

SIDE = {"floro": 64, "less_vit": 32}
L1C = {band.name: band for band in SENSORS["sentinel-2-l1c"].bands}
L2A = {band.name: band for band in SENSORS["sentinel-2-l2a"].bands}
EUROSAT = [*(f"B{number:02d}" for number in range(1, 13)), "B8A"]


def windows(image: np.ndarray, side: int, step: int) -> list[np.ndarray]:
    rows = range(0, image.shape[1] - side + 1, step)
    columns = range(0, image.shape[2] - side + 1, step)
    return [image[:, r : r + side, c : c + side] for r in rows for c in columns]


def chips(bands, parts: list[np.ndarray], lonlat: list[tuple[float, float]]) -> Chips:
    values = np.stack(parts)[:, None].astype(np.float32)
    where = np.array(lonlat, dtype=np.float64)
    return Chips(tuple(bands), values, 10.0, where, np.full((len(where), 1), np.nan))


def read(path: Path) -> tuple[np.ndarray, tuple[float, float]]:
    with rasterio.open(path) as file:
        x, y = file.transform * (file.width / 2, file.height / 2)
        to_degrees = Transformer.from_crs(file.crs, 4326, always_xy=True)
        lon, lat = to_degrees.transform(x, y)
        return file.read().astype(np.float32), (lon, lat)


def samples(folder: Path, side: int) -> dict[str, tuple[Chips, Chips]]:
    """Training and held-out chips by set."""
    found = {}
    aligned = folder / "terramesh_aligned"
    bands = (*L2A.values(), *SENSORS["sentinel-1"].bands[:2], SENSORS["dem"].bands[0])
    parts = {False: ([], []), True: ([], [])}
    for number, path in enumerate(sorted((aligned / "S2L2A").glob("*.tif"))):
        s2, lonlat = read(path)
        s1, dem = read(aligned / "S1RTC" / path.name)[0], read(aligned / "DEM" / path.name)[0]
        image = np.concatenate([np.where(s2 > 0, s2 / 1e4, np.nan), s1, dem])
        cut = windows(image, side, 32)
        held = number == 3
        parts[held][0].extend(cut)
        parts[held][1].extend([lonlat] * len(cut))
    found["aligned"] = tuple(chips(bands, *parts[held]) for held in (False, True))

    parts = {False: ([], []), True: ([], [])}
    rows = list(csv.DictReader((folder / "s2_global_patches/index.csv").open()))
    for number, row in enumerate(rows):
        s2, lonlat = read(folder / "s2_global_patches" / row["file"])
        # Products since baseline 04.00 carry an offset of 1000.
        shift = 1000.0 if float(row["min"]) >= 900 else 0.0
        cut = windows(np.where(s2 > 0, (s2 - shift) / 1e4, np.nan), side, 64)
        held = number % 4 == 3
        parts[held][0].extend(cut)
        parts[held][1].extend([lonlat] * len(cut))
    found["global"] = tuple(chips(L2A.values(), *parts[held]) for held in (False, True))

    parts = {False: ([], []), True: ([], [])}
    rows = list(csv.DictReader((folder / "eurosat_ms/labels.csv").open()))
    for number, row in enumerate(rows):
        image, lonlat = read(folder / "eurosat_ms" / row["file"])
        held = number % 5 == 4
        parts[held][0].append(image[:, :side, :side] / 1e4)
        parts[held][1].append(lonlat)
    found["eurosat"] = tuple(
        chips([L1C[name] for name in EUROSAT], *parts[held]) for held in (False, True)
    )
    return found


def visible_mean(truth, valid, gone):
    """The mean of the valid pixels that are left of each channel of each chip."""
    left = (valid & ~gone).to(truth.dtype)
    count = left.sum((2, 3), keepdim=True)
    return (truth * left).sum((2, 3), keepdim=True) / count.clamp(min=1)


def score_floro(model, held: list[Chips], dropped: int | None, flags: str) -> np.ndarray:
    """By chip the squared errors of what is told and of two simple guesses, and what counts."""
    rows = []
    own = (torch.arange(11) >= 8).long()
    network = model.autoencoder((SIDE["floro"],) * 2).eval()
    network.encoder.flags = flags
    for chips in held:
        for start in range(0, len(chips), 32):
            batch = chips.batch(slice(start, start + 32))
            away = torch.zeros(len(batch), 7, dtype=torch.bool)
            if dropped is not None:
                away[:, dropped] = True
            generator = torch.Generator().manual_seed(start)
            with torch.no_grad():
                told, truth, valid, pixels = network.guess(batch, generator, away)
            gone = pixels[:, own]
            counted = gone & valid
            guesses = (told, 0.0 * told, visible_mean(truth, valid, gone))
            sums = [((g - truth).square() * counted).sum((1, 2, 3)) for g in guesses]
            rows.append(torch.stack([*sums, counted.sum((1, 2, 3))], dim=1).numpy())
    return np.concatenate(rows)


def by_place(rows: np.ndarray, held: list[Chips]) -> np.ndarray:
    """Sums of the chips of each place."""
    at = np.concatenate([chips.lonlat for chips in held])
    _, place = np.unique(at, axis=0, return_inverse=True)
    return np.stack([rows[place.ravel() == k].sum(0) for k in range(place.max() + 1)])


def named(rows: np.ndarray) -> dict[str, float]:
    error = rows[:, :3].sum(0) / rows[:, 3].sum()
    return dict(zip(("told", "mean of training", "mean of what is left"), error, strict=True))


def worse_by(one: np.ndarray, other: np.ndarray) -> list[float]:
    """By how much the mean error is larger in `one`: 95 % interval over drawn places, as shares.

    Empty for fewer than five places, which have no spread to speak of.
    """
    if len(one) < 5:
        return []
    draw = np.random.default_rng(0)
    picks = draw.integers(len(one), size=(2000, len(one)))
    error = [rows[picks, 0].sum(1) / rows[picks, 3].sum(1) for rows in (one, other)]
    return [float(v) for v in np.quantile(error[0] / error[1] - 1, (0.025, 0.975))]


def floro(found: dict, steps: int, settings: dict, report) -> dict:
    from georama.recipes.floro import FLORO

    since = time.perf_counter()
    model = FLORO(width=96, depth=4, heads=3, decoder_width=64, decoder_depth=2, layer_scale=0.1,
                  drop=0.0, **settings)  # fmt: skip
    model = model.pretrain(
        [train for train, _ in found.values()], steps=steps, batch=16, rate=2e-3, report=report
    )
    return {"minutes": (time.perf_counter() - since) / 60, **floro_scores(model, found)}


def floro_scores(model, found: dict) -> dict:
    from georama.encoders.availability import GROUPS

    held = {name: part[1] for name, part in found.items()}
    told: dict = {"all groups": named(score_floro(model, list(held.values()), None, "true"))}
    told["by set"] = {n: named(score_floro(model, [c], None, "true")) for n, c in held.items()}
    for number, group in enumerate(GROUPS):
        some = list(held.values()) if number < 5 else [held["aligned"]]
        rows = {
            flags: by_place(score_floro(model, some, number, flags), some)
            for flags in ("true", "ones", "zeros")
        }
        told[f"without {group.name}"] = {k: named(v)["told"] for k, v in rows.items()} | {
            "places": len(rows["true"]),
            "ones worse by": worse_by(rows["ones"], rows["true"]),
        }
    return told


TRAINED = ("B02", "B03", "B04", "B05", "B07", "B08", "B11", "VV", "VH")
UNSEEN = ("B01", "B06", "B8A", "B12")
"""Bands that LESS ViT is pretrained on, and others that it never was."""


def some_bands(chips: Chips, names: tuple[str, ...]) -> Chips:
    return chips.select([band for band in chips.bands if band.name in names])


def training_means(sets: list[Chips]) -> dict[str, float]:
    """Mean of every band over the sets that have it, in units of the table of sensors."""
    sums: dict[str, list[float]] = {}
    for chips in sets:
        for i, band in enumerate(chips.bands):
            values = chips.values[:, :, i]
            seen = (values[np.isfinite(values)] - band.mean) / band.spread
            total = sums.setdefault(band.key, [0.0, 0])
            total[0] += float(seen.sum(dtype=np.float64))
            total[1] += seen.size
    return {key: total / count for key, (total, count) in sums.items()}


def score_less(model, held: list[Chips], means: dict[str, float]) -> dict:
    """Squared errors of hidden pixels by what was hidden, and of the two simple guesses."""
    kinds = ("channel", "place", "both")
    sums = {kind: np.zeros(4) for kind in kinds}
    network = model.autoencoder().eval()
    for chips in held:
        mean = torch.tensor([means[band.key] for band in chips.bands])[:, None, None]
        for start in range(0, len(chips), 16):
            batch = chips.batch(slice(start, start + 16))
            generator = torch.Generator().manual_seed(start)
            with torch.no_grad():
                told, truth, known, gone, away = network.guess(batch, generator)
            c, p = gone[:, :, None, None], away[:, None, :, None]
            left = (known & ~c & ~p).float()
            count = left.sum((2, 3), keepdim=True)
            visible = (truth * left).sum((2, 3), keepdim=True) / count.clamp(min=1)
            # Of a hidden band nothing is left, but how bright the others are.
            others = ((truth - mean) * left).sum((1, 2, 3), keepdim=True)
            others = others / left.sum((1, 2, 3), keepdim=True).clamp(min=1)
            visible = torch.where(count > 0, visible, mean + others)
            for kind, hidden in zip(kinds, (c & ~p, p & ~c, c & p), strict=True):
                counted = hidden & known
                for i, guess in enumerate((told, mean, visible)):
                    sums[kind][i] += float((guess - truth).square()[counted].sum())
                sums[kind][3] += int(counted.sum())
    guesses = ("told", "mean of training", "mean of what is left")
    return {k: dict(zip(guesses, v[:3] / v[3], strict=True)) for k, v in sums.items()}


def less_vit(found: dict, steps: int, settings: dict, report) -> dict:
    from georama.recipes.less_vit import LESSViT

    since = time.perf_counter()
    means = training_means([train for train, _ in found.values()])
    told: dict = {"steps": steps}
    model = LESSViT(depth=2, decoder_depth=1, **settings).pretrain(
        [some_bands(train, TRAINED) for train, _ in found.values()], steps=steps, batch=8,
        rate=3e-3, report=report,
    )  # fmt: skip
    told["minutes"] = (time.perf_counter() - since) / 60
    for title, names in (("trained bands", TRAINED), ("unseen bands alone", UNSEEN)):
        told[title] = score_less(model, [some_bands(h, names) for _, h in found.values()], means)
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", choices=["floro", "less_vit"], default="floro")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compat", action="store_true", help="the authors' defects included")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = samples(asked.folder, SIDE[asked.recipe])
    for name, (train, held) in found.items():
        print(name, train.values.shape, held.values.shape)
    began = time.perf_counter()

    def report(line: str) -> None:
        print(f"{time.perf_counter() - began:.0f} s: {line}", flush=True)

    settings = {"seed": asked.seed, "compat": asked.compat}
    run = {"floro": floro, "less_vit": less_vit}[asked.recipe]
    print(json.dumps(run(found, asked.steps, settings, report), indent=1, default=float))
