"""What a user's own split gives away: copies, overlaps, neighbours, dates on both sides, shortcuts.

Every check looks at test samples one by one and says which of them are concerned, so that shares
can be told and samples can be taken out. `trust.leakage` looks at distances alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from georama.errors import DataError, UsageError
from georama.geodesy import nearest_km
from georama.sampling.splits import partition
from georama.trust.leakage import TWIN_KM, audit_split, error_by_distance
from georama.wording import count

SAME = 0.1
"""Share of the distance to the tenth nearest sample below which the nearest is a near copy."""
_TENTH = 10
_ENOUGH = 50
"""With fewer training samples the tenth nearest is about any of them."""
FEWEST = 4
"""Fewer known numbers are those of some other sample, or close to them, by chance."""
OVERLAP = 0.01
"""Share of a footprint that is covered; edges of neighbours do not count."""
TELLING = 0.01
"""Share of the test samples that makes a leak worth telling."""
SHORTCUT = 0.8
"""Of what all inputs gain over chance, gained by position, date or elevation alone."""
WORTH = 0.05
"""Least gain over chance, in accuracy or R², that is spoken of."""
MOST_ROWS = 3000
"""Rows that a control learns from, or is tested on."""
_WINDOW = 4
_ONE_IN = np.uint64(8)

Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]
Learner = Callable[[], Any]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        name: Of the check.
        leak: Whether it speaks against the split.
        share: Of the test samples that are concerned; NaN where it is not about samples.
        sentence: What was found.
        figures: In numbers.
    """

    name: str
    leak: bool
    share: float
    sentence: str
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Samples:
    """What is known of the samples of a split; what is not known is None.

    Attributes:
        test: Which of them are tested on, (n,).
        lonlat: Degrees (n, 2).
        truth: Codes of classes (n,) as integers, or amounts as floats.
        place: Number of the place of each, (n,): a series has many samples of one.
        days: Since 1970-01-01, (n,).
        elevation_m: (n,).
        footprints: Outlines in degrees, (n,) of shapely geometries.
        values: What a model reads, (n, …): bands, pixels, or columns; NaN where unknown.
    """

    test: Flags
    lonlat: Numbers | None = None
    truth: NDArray[Any] | None = None
    place: NDArray[np.int64] | None = None
    days: Numbers | None = None
    elevation_m: Numbers | None = None
    footprints: NDArray[Any] | None = None
    values: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        if self.test.all() or not self.test.any():
            side = "a test" if self.test.all() else "a training"
            raise DataError(
                f"a split has samples to train and to test on, all {len(self.test)} are on "
                f"{side} side",
                remedy="say which samples are which",
            )
        for name in ("lonlat", "truth", "place", "days", "elevation_m", "footprints", "values"):
            one = getattr(self, name)
            if one is not None and len(one) != len(self.test):
                raise UsageError(
                    f"{name} has {len(one)} rows, the split {len(self.test)}",
                    remedy="give one a sample",
                )


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    Attributes:
        findings: In the order of the checks.
        concerned: One row a test sample: its number and, by check, a flag or a share.
        by_distance: See `trust.leakage.error_by_distance`; empty without a control.
        schemes: Score of the control under the user's split, at random and in blocks.
        shortcuts: Score of what sees little, by what it sees.
        metric: Of these scores.
        chance: The score of what says the same everywhere.
    """

    findings: tuple[Finding, ...]
    concerned: pd.DataFrame
    by_distance: list[dict[str, float]] = field(default_factory=list)
    schemes: dict[str, float] = field(default_factory=dict)
    shortcuts: dict[str, float] = field(default_factory=dict)
    metric: str = ""
    chance: float = float("nan")

    @property
    def leaks(self) -> list[Finding]:
        """What speaks against the split."""
        return [one for one in self.findings if one.leak]

    @property
    def sentence(self) -> str:
        """The verdict."""
        short = [one for one in self.leaks if one.name.startswith("shortcut")]
        leaks = [one for one in self.leaks if one not in short]
        told = (
            f"This split leaks ({', '.join(one.name for one in leaks)}): {leaks[0].sentence}."
            if leaks
            else "No leak was found in this split."
        )
        return told if not short else f"{told} Beware of a shortcut: {short[0].sentence}."


def audit(samples: Samples, learner: Learner | None = None, *, seed: int = 0) -> Audit:
    """Run every check that what is known allows.

    Args:
        samples: Of the split.
        learner: Makes a model with `fit(x, y)` and `predict(x)` of scikit-learn, for classes where
            the truth is whole numbers (see `heads.controls.forest`); without one, nothing is
            scored.
        seed: Of the partitions that the split is held against.
    """
    test = samples.test
    findings: list[Finding] = []
    concerned: dict[str, NDArray[Any]] = {"sample": np.flatnonzero(test)}

    def add(finding: Finding, rows: NDArray[Any]) -> None:
        findings.append(finding)
        concerned[finding.name] = rows

    if samples.values is not None:
        add(*_copies_found(samples.values, test))
        if samples.values.ndim >= 4 and min(samples.values.shape[-2:]) >= 2 * _WINDOW:
            add(*_pixels_found(samples.values, test))
        features = features_of(samples.values)
        if features.shape[1] >= FEWEST:
            found = _near_found(features, test)
            if found is not None:
                add(*found)
    if samples.footprints is not None:
        add(*_overlap_found(samples.footprints, test))
    place = samples.place
    if place is None and samples.lonlat is not None:
        place = np.unique(np.round(samples.lonlat, 4), axis=0, return_inverse=True)[1].ravel()
    if place is not None:
        add(*_place_found(place, test))
        if samples.days is not None:
            found = _dates_found(place, samples.days, test)
            if found is not None:
                add(*found)
    if samples.lonlat is not None:
        add(*_near_by_found(samples.lonlat, test))
    frame = pd.DataFrame(concerned)
    if learner is None or samples.truth is None:
        return Audit(tuple(findings), frame)
    scored = _scored(samples, place, learner, seed)
    return Audit((*findings, *scored.pop("findings")), frame, **scored)


# ------------------------------------------------------------------ what is the same


def exact_copies(values: NDArray[Any], test: Flags) -> Flags:
    """Which test samples hold the very numbers of a training sample, (tests,).

    Samples that hold one number throughout, or next to none, are no copies of each other.
    """
    flat = np.ascontiguousarray(values.reshape(len(values), -1), dtype=np.float64)
    flat = np.where(np.isnan(flat), np.nan, flat) + 0.0  # one NaN, and no negative zero
    digests = np.array([hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in flat])
    known = np.isfinite(flat)
    least, most = (
        how(np.where(known, flat, other), axis=1)
        for how, other in ((np.min, np.inf), (np.max, -np.inf))
    )
    telling = (known.sum(axis=1) >= min(FEWEST, flat.shape[1])) & (most > least)
    return np.asarray(np.isin(digests[test], digests[~test & telling]))


def shared_pixels(values: NDArray[Any], test: Flags) -> Numbers:
    """Share of every test image that is in a training image too, wherever it lies there: (tests,).

    Crops of one scene that overlap hold the same pixels at other positions. Windows of 4 × 4 pixels
    are hashed, and one in eight is kept by its hash, so that the same window is kept in every image
    (after winnowing, S. Schleimer et al. 2003, doi 10.1145/872757.872770). Windows of one colour
    are left out; NaN where an image has nothing else.

    Args:
        values: Images (n, …, h, w).
        test: Which are tested on, (n,).
    """
    images = values.reshape(len(values), -1, *values.shape[-2:])
    prints = [_fingerprints(image) for image in images]
    known = [prints[i] for i in np.flatnonzero(~test)]
    trained = np.unique(np.concatenate(known)) if known else np.empty(0, np.uint64)
    return np.array([
        np.isin(prints[i], trained).mean() if len(prints[i]) else np.nan
        for i in np.flatnonzero(test)
    ])  # fmt: skip


def _fingerprints(image: NDArray[Any]) -> NDArray[np.uint64]:
    """Hashes of the chosen windows of an image (layers, h, w)."""
    bits = np.ascontiguousarray(image, dtype=np.float64)
    bits = (np.where(np.isnan(bits), np.nan, bits) + 0.0).view(np.uint64)
    pixel = np.zeros(bits.shape[1:], dtype=np.uint64)
    for layer in bits:
        pixel = _mixed(pixel * np.uint64(0x9E3779B97F4A7C15) ^ layer)
    windows = np.lib.stride_tricks.sliding_window_view(pixel, (_WINDOW, _WINDOW))
    flat = windows.reshape(-1, _WINDOW * _WINDOW)
    varied = (flat != flat[:, :1]).any(axis=1)
    code = np.zeros(len(flat), dtype=np.uint64)
    for column in flat.T:
        code = _mixed(code * np.uint64(0xBF58476D1CE4E5B9) ^ column)
    return code[varied & (code % _ONE_IN == 0)]


def _mixed(code: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: every bit of the input moves half of the output."""
    code = (code ^ (code >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    code = (code ^ (code >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return code ^ (code >> np.uint64(31))


def features_of(values: NDArray[np.floating]) -> Numbers:
    """Rows of numbers (n, d): as they are, or mean and spread of every layer of images."""
    if values.ndim < 4:
        return values.reshape(len(values), -1).astype(np.float64)
    flat = values.reshape(len(values), int(np.prod(values.shape[1:-2])), -1).astype(np.float64)
    known = np.isfinite(flat)
    size = np.maximum(known.sum(-1), 1)
    mean = np.where(known, flat, 0.0).sum(-1) / size
    spread = np.sqrt(np.where(known, (flat - mean[..., None]) ** 2, 0.0).sum(-1) / size)
    blank = ~known.any(-1)
    return np.where(np.hstack([blank, blank]), np.nan, np.hstack([mean, spread]))


def near_copies(features: Numbers, test: Flags) -> Numbers:
    """Distance of test samples to the nearest training sample, over that to the tenth: (tests,).

    Where samples lie close to each other anyway, the tenth is close too; a near copy is the only
    one. Features are scaled to unit spread. NaN where more than half of them are unknown,
    and where fewer than 50 samples are trained on.
    """
    from scipy.spatial import KDTree

    known = np.isfinite(features)
    size = np.maximum(known.sum(0), 1)
    mean = np.where(known, features, 0.0).sum(0) / size
    spread = np.sqrt(np.where(known, (features - mean) ** 2, 0.0).sum(0) / size)
    scaled = np.where(known, (features - mean) / np.where(spread > 0, spread, 1.0), 0.0)
    told = known.sum(axis=1) > features.shape[1] / 2
    near = np.full(int(test.sum()), np.nan)
    trained = scaled[~test & told]
    if len(trained) < _ENOUGH:
        return near
    apart = KDTree(trained).query(scaled[test & told], k=_TENTH)[0]
    first, tenth = apart[:, 0], apart[:, -1]
    near[told[test]] = np.where(tenth > 0, first / np.where(tenth > 0, tenth, 1.0), 0.0)
    return near


def overlap(footprints: NDArray[Any], test: Flags) -> Numbers:
    """Share of every test footprint that training footprints cover, (tests,)."""
    import shapely

    trained = footprints[~test]
    tree = shapely.STRtree(trained)
    asked = footprints[test]
    covered = np.zeros(len(asked))
    which, hit = tree.query(asked, predicate="intersects")
    for i in np.unique(which):
        area = shapely.area(asked[i])
        if area > 0:
            under = shapely.union_all(trained[hit[which == i]])
            covered[i] = shapely.area(shapely.intersection(asked[i], under)) / area
    return covered


def squares(lonlat: Numbers, side_m: float) -> NDArray[Any]:
    """Square footprints of this side in metres around points (n, 2 degrees), as shapely boxes."""
    import shapely

    if not side_m > 0:
        raise UsageError(f"a footprint has a side above 0 m, got {side_m:g}")
    up = side_m / 2 / 111_195.0
    across = up / np.maximum(np.cos(np.radians(lonlat[:, 1])), 1e-6)
    lon, lat = lonlat.T
    return np.asarray(shapely.box(lon - across, lat - up, lon + across, lat + up))


def dates_on_both_sides(
    place: NDArray[np.int64], days: Numbers, test: Flags
) -> tuple[Flags, Numbers]:
    """Which test samples have training samples of their place before and after, and how near.

    Returns:
        Flags (tests,), and days to the nearest training sample of the same place, NaN without any.
    """
    rows = np.flatnonzero(test)
    between, gap = np.zeros(len(rows), dtype=bool), np.full(len(rows), np.nan)
    known = ~test & np.isfinite(days)
    order = np.lexsort((days[known], place[known]))
    places, dates = place[known][order], days[known][order]
    for i, row in enumerate(rows):
        start, stop = np.searchsorted(places, [place[row], place[row] + 1])
        own = dates[start:stop]
        if len(own) and np.isfinite(days[row]):
            gap[i] = np.abs(own - days[row]).min()
            between[i] = own[0] < days[row] < own[-1]
    return between, gap


# ------------------------------------------------------------------ findings


def _share(flags: NDArray[Any]) -> float:
    return float(np.mean(flags)) if len(flags) else 0.0


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 or share == 0 else "less than 1 %"


def _copies_found(values: NDArray[Any], test: Flags) -> tuple[Finding, Flags]:
    same = exact_copies(values, test)
    share = _share(same)
    told = count(int(same.sum()), "test sample")
    said = f"{told} ({_percent(share)}) are copies of training samples"
    return Finding("copies", share > TELLING, share, said, {"samples": int(same.sum())}), same


def _pixels_found(values: NDArray[Any], test: Flags) -> tuple[Finding, Numbers]:
    part = shared_pixels(values, test)
    hit = np.nan_to_num(part) > OVERLAP
    share = _share(hit)
    mean = float(np.nan_to_num(part).mean())
    said = (
        f"{_percent(share)} of the test images hold pixels of training images, {_percent(mean)} of "
        "all that is tested was seen in training"
        if hit.any()
        else "no test image holds pixels of a training image"
    )
    return Finding("shared pixels", share > TELLING, share, said, {"mean": mean}), part


def _near_found(features: Numbers, test: Flags) -> tuple[Finding, Numbers] | None:
    apart = near_copies(features, test)
    share = _share(np.nan_to_num(apart, nan=1.0) < SAME)
    if np.isnan(apart).all():
        return None
    said = (
        f"{_percent(share)} of the test samples have one training sample ten times as near as the "
        "tenth, in what a model reads"
    )
    return Finding("near copies", share > TELLING, share, said), apart


def _overlap_found(footprints: NDArray[Any], test: Flags) -> tuple[Finding, Numbers]:
    covered = overlap(footprints, test)
    hit = covered > OVERLAP
    share = _share(hit)
    said = (
        f"{_percent(share)} of the test footprints overlap training footprints, by "
        f"{_percent(float(covered[hit].mean()))} of their area on average"
        if hit.any()
        else "no test footprint overlaps a training footprint"
    )
    figures = {"mean": float(covered.mean())}
    return Finding("overlap", share > TELLING, share, said, figures), covered


def _place_found(place: NDArray[np.int64], test: Flags) -> tuple[Finding, Flags]:
    both = np.isin(place[test], place[~test])
    share = _share(both)
    said = f"{_percent(share)} of the test samples are of places that were trained on"
    return Finding("same place", share > TELLING, share, said), both


def _dates_found(
    place: NDArray[np.int64], days: Numbers, test: Flags
) -> tuple[Finding, Flags] | None:
    between, gap = dates_on_both_sides(place, days, test)
    if not np.isfinite(gap).any():
        return None
    share, near = _share(between), float(np.nanmedian(gap))
    said = (
        f"{_percent(share)} of the test samples have training dates of the same place before and "
        f"after, the nearest {near:.0f} days away (median)"
    )
    return Finding("dates on both sides", share > TELLING, share, said, {"days": near}), between


def _near_by_found(lonlat: Numbers, test: Flags) -> tuple[Finding, Numbers]:
    apart = nearest_km(lonlat[test], lonlat[~test])
    fold = partition("blocks", lonlat)
    parts = [np.full(1, np.nan)]
    if fold.max() > 0:
        parts = [nearest_km(lonlat[fold == f], lonlat[fold != f]) for f in np.unique(fold)]
    # Blocks touch too, and one fold of them more than another: the nearest is what is held against.
    usual = max(_share(part < TWIN_KM) for part in parts)
    middle, aim = float(np.median(apart)), min(float(np.median(part)) for part in parts)
    share = _share(apart < TWIN_KM)
    leak = share > max(TELLING, 2 * usual) or middle < 0.5 * aim
    said = (
        f"the median test sample lies {middle:.3g} km from training and {_percent(share)} lie "
        f"within {1000 * TWIN_KM:.0f} m; with blocks it would be {aim:.3g} km and {_percent(usual)}"
    )
    figures = {"median_km": middle, "blocks_km": aim, "blocks_share": usual}
    return Finding("distance", bool(leak), share, said, figures), apart


# ------------------------------------------------------------------ what little is enough


def _scored(
    samples: Samples, place: NDArray[np.int64] | None, learner: Learner, seed: int
) -> dict[str, Any]:
    """Scores of the control under several splits and from shortcuts."""
    truth = samples.truth
    if truth is None:
        return {"findings": []}
    known = np.isfinite(truth) if truth.dtype.kind == "f" else truth >= 0
    by_class = truth.dtype.kind != "f"
    metric = "accuracy" if by_class else "r2"
    views = _views(samples)
    if known[samples.test].sum() < 2 or known[~samples.test].sum() < 2:
        raise DataError(
            "fewer than two samples of a side of the split have a truth to score with",
            remedy="fill the target, or audit without --target",
        )
    draw = np.random.default_rng(seed)

    def told(x: NDArray[Any], train: Flags, test: Flags) -> tuple[NDArray[Any], NDArray[Any]]:
        """Rows that were tested and what was said of them."""
        learn, ask = (
            draw.permutation(np.flatnonzero(at & known))[:MOST_ROWS] for at in (train, test)
        )
        if not len(learn) or not len(ask):
            return ask[:0], truth[:0]
        return ask, learner().fit(x[learn], truth[learn]).predict(x[ask])

    def score(rows: NDArray[Any], said: NDArray[Any]) -> float:
        if not len(rows):
            return float("nan")
        if by_class:
            return float((truth[rows] == said).mean())
        spread = ((truth[rows] - truth[rows].mean()) ** 2).sum()
        return float(1 - ((truth[rows] - said) ** 2).sum() / spread) if spread > 0 else float("nan")

    test = samples.test
    tested = np.flatnonzero(test & known)
    usual = np.bincount(truth[~test & known]).argmax() if by_class else truth[~test & known].mean()
    chance = score(tested, np.full(len(tested), usual))
    shortcuts = {name: score(*told(x, ~test, test)) for name, x in views.items()}
    findings = _shortcuts_found(shortcuts, chance, metric)
    schemes: dict[str, float] = {}
    by_distance: list[dict[str, float]] = []
    main = "inputs" if "inputs" in views else next(iter(views), None)
    if main is not None and samples.lonlat is not None:
        schemes["your split"] = shortcuts[main]
        checked = []
        for scheme, fold in _partitions(samples.lonlat, place, seed).items():
            rows, said = [np.concatenate(part) for part in zip(
                *(told(views[main], fold != f, fold == f) for f in np.unique(fold)), strict=True
            )]  # fmt: skip
            schemes[scheme] = score(rows, said)
            error = (said != truth[rows]).astype(float) if by_class else said - truth[rows]
            apart = np.empty(len(test))
            for f in np.unique(fold):
                apart[fold == f] = nearest_km(samples.lonlat[fold == f], samples.lonlat[fold != f])
            checked.append(pd.DataFrame({
                "distance_km": apart[rows], "error": error, "scheme": scheme,
            }))  # fmt: skip
        table = pd.concat(checked, ignore_index=True)
        # What intervals of one width hold, made for a random split; a class is right or wrong.
        width = table.loc[table["scheme"] == "random", "error"].abs().quantile(0.9)
        table["inside"] = table["error"].abs() <= (0.0 if by_class else width)
        by_distance = error_by_distance(table)
        findings += _gap_found(schemes, metric)
        findings += _error_found(audit_split(samples.lonlat, test, table))
    return {
        "findings": findings, "by_distance": by_distance, "schemes": schemes,
        "shortcuts": shortcuts, "metric": metric, "chance": chance,
    }  # fmt: skip


def _views(samples: Samples) -> dict[str, NDArray[Any]]:
    """What controls read, by name."""
    views: dict[str, NDArray[Any]] = {}
    if samples.values is not None:
        views["inputs"] = features_of(samples.values)
    if samples.lonlat is not None:
        views["position"] = samples.lonlat
    if samples.days is not None:
        season = 2 * np.pi * samples.days / 365.2425
        views["date"] = np.stack([samples.days, np.sin(season), np.cos(season)], axis=1)
    if samples.elevation_m is not None:
        views["elevation"] = samples.elevation_m[:, None]
    little = [name for name in ("position", "date", "elevation") if name in views]
    if len(little) > 1:
        views[" + ".join(little)] = np.hstack([views[name] for name in little])
    return views


def _partitions(
    lonlat: Numbers, place: NDArray[np.int64] | None, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Folds to hold the split against; whole places only where places repeat."""
    found = {"random": partition("random", lonlat, seed=seed)}
    if place is not None:
        which = np.unique(place, return_inverse=True)[1]
        places = int(which.max()) + 1
        if 1 < places < len(place):
            deal = np.random.default_rng(seed).permutation(places) % min(5, places)
            found["whole places"] = deal[which]
    blocked = partition("blocks", lonlat, seed=seed)
    if blocked.max() > 0:
        found["blocks"] = blocked
    return found


def _shortcuts_found(told: Mapping[str, float], chance: float, metric: str) -> list[Finding]:
    full = told.get("inputs", float("nan"))
    found = []
    for name, value in told.items():
        if name == "inputs":
            continue
        gain, whole = value - chance, full - chance
        strong = gain > WORTH and gain > SHORTCUT * whole
        said = f"{name} alone reaches {metric} {value:.3f} on this split, chance {chance:.3f}"
        if full == full:
            said += f", all inputs {full:.3f}"
        found.append(Finding(
            f"shortcut: {name}", bool(strong), float("nan"), said, {metric: value, "chance": chance}
        ))  # fmt: skip
    return found


def _gap_found(schemes: Mapping[str, float], metric: str) -> list[Finding]:
    """Whether the split sides with the random one or with blocks."""
    random, apart = schemes["random"], schemes.get("blocks", float("nan"))
    own = schemes["your split"]
    others = {"random": "at random", "whole places": "on unseen places", "blocks": "in blocks"}
    parts = [f"{schemes[name]:.3f} {word}" for name, word in others.items() if name in schemes]
    said = f"the control scores {metric} {own:.3f} on this split, {', '.join(parts)}"
    leak = bool(random - apart > WORTH and own > (random + apart) / 2)
    return [Finding("random or grouped", leak, float("nan"), said, dict(schemes))]


def _error_found(near: Mapping[str, Any]) -> list[Finding]:
    """What the error would be at the distances of the split, and at those of blocks."""
    here, there = near["error_expected_on_this_split"], near["error_expected_there"]
    said = (
        f"going by distance alone, the error is {here:.3g} where this split tests and {there:.3g} "
        "in blocks"
    )
    leak = "times as large" in near["finding"]
    return [Finding("error by distance", leak, float("nan"), said, {"here": here, "blocks": there})]
