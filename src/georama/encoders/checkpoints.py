"""Other people's location weights in their published layout, read without running their code.

One loader sniffs the family from the names of the tensors: SatCLIP and OSMGraphCLIP (Lightning
checkpoints, or only their location network; RANGE reads SatCLIP's), GeoCLIP and SINR.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import pathlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from georama.card import Card
from georama.encoders.harmonics import CONVENTIONS, MAX_DEGREES, Convention
from georama.encoders.location import (
    FourierCapsules,
    LocationEncoder,
    ResidualNet,
    Siren,
    with_seams_told,
)
from georama.errors import DataError
from georama.wording import listing

FAMILIES = "SatCLIP, OSMGraphCLIP, GeoCLIP and SINR"
# Weight decay leaves dead units with weights down to 1e-45; a product with such denormal numbers
# is several times slower, and whether they are there does not change any output.
TINY_WEIGHT = 1e-12
GEOCLIP_FILE = "model/weights/location_encoder_weights.pth"
_AGAIN = "get the file again from where it is published"


@dataclass(frozen=True)
class _Read:
    """The tensors of one file and what stands beside them."""

    path: Path
    tensors: dict[str, NDArray[np.floating]]
    settings: dict[str, Any]

    def layer(self, name: str) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Weight (out, in) and bias (out,) of a linear layer."""
        weight, bias = self.need(f"{name}.weight", 2), self.need(f"{name}.bias", 1)
        if len(weight) != len(bias):
            raise self._mismatch(f"{name}.bias", f"({len(weight)},)", bias)
        return weight, bias

    def chain(self, names: list[str], first: int) -> list[tuple[Any, Any]]:
        """Layers of which each one reads what the one before gives."""
        layers, wanted = [], first
        for name in names:
            weight, bias = self.layer(name)
            if weight.shape[1] != wanted:
                raise self._mismatch(f"{name}.weight", f"({len(weight)}, {wanted})", weight)
            layers.append((weight, bias))
            wanted = len(weight)
        return layers

    def need(self, key: str, dimensions: int) -> NDArray[np.floating]:
        """A tensor that must be there, with so many dimensions, all finite, without denormals."""
        if key not in self.tensors:
            raise DataError(
                f"{self.path} lacks the tensor {key}, it holds {listing(sorted(self.tensors))}",
                remedy=_AGAIN,
            )
        values = self.tensors[key]
        if values.ndim != dimensions or values.size == 0:
            raise self._mismatch(key, f"{dimensions} dimensions", values)
        broken = int((~np.isfinite(values)).sum())
        if broken:
            raise DataError(
                f"weights must be finite, {key} in {self.path} has {broken:,} values that are NaN "
                "or infinite",
                remedy=_AGAIN,
            )
        return np.where(np.abs(values) < TINY_WEIGHT, values.dtype.type(0), values)

    def _mismatch(self, key: str, wanted: str, got: NDArray[np.floating]) -> DataError:
        return DataError(
            f"{key} in {self.path} must have {wanted}, it has the shape {got.shape}",
            remedy="check that the file holds one model and was not edited",
        )


def load_location_weights(path: str | Path, *, precision: str = "float32") -> LocationEncoder:
    """A location encoder out of a checkpoint file, whatever family it belongs to.

    Args:
        path: A .safetensors file, or a file of torch.save (.ckpt, .pth, .pt). Only tensors and
            plain values are read from it; one that would run code is refused.
        precision: Of the network, float32 or float64.

    Returns:
        An encoder of degrees, longitude first, in every case: the latitude-first order of GeoCLIP
        stays inside. Its card tells where one place has several codes, as measured here.

    Raises:
        DataError: the file is missing, truncated, would run code, belongs to no known family, or
            its tensors do not fit together.
    """
    read = _read(Path(path))
    keys = read.tensors
    if any(re.search(r"(^|\.)nnet\.(layers\.\d+|last_layer)\.weight$", key) for key in keys):
        encoder = _siren(read, precision)
    elif any(re.search(r"(^|\.)LocEnc\d+\.capsule\.", key) for key in keys):
        encoder = _geoclip(read, precision)
    elif any(re.search(r"(^|\.)feats\.\d+\.w1\.weight$", key) for key in keys):
        encoder = _sinr(read, precision)
    else:
        raise DataError(
            f"{path} holds no location weights of {FAMILIES}, its tensors are called "
            f"{listing(sorted(keys), most=3) or 'nothing at all'}",
            remedy="give the checkpoint file of one of these",
        )
    return replace(encoder, card=with_seams_told(encoder.card, encoder))


def read_tensors(path: str | Path) -> dict[str, NDArray[np.floating]]:
    """The tensors of floats in a checkpoint file, by name, whatever model they belong to.

    Args:
        path: A .safetensors file, or a file of torch.save, of which only tensors and plain values
            are read.

    Raises:
        DataError: The file is missing, truncated, or would run code.
    """
    return _read(Path(path)).tensors


def find_geoclip_weights() -> Path:
    """The location weights that the installed package `geoclip` brings, without importing it."""
    spec = importlib.util.find_spec("geoclip")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(folder) / GEOCLIP_FILE).is_file():
            return file
    from georama.errors import NetworkError
    from georama.sources.packaged import member

    try:
        return member("geoclip", f"geoclip/{GEOCLIP_FILE}", fetch=False)
    except NetworkError:
        raise DataError(
            "the weights of GeoCLIP are wanted, and neither the package geoclip is installed nor "
            "does the data kit hold it",
            remedy="run: georama data fetch geoclip, or give its file with --weights",
        ) from None


# ------------------------------------------------------------------------------------ reading


def _read(path: Path) -> _Read:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"a file of weights is wanted, {path} {what}", remedy="check the path")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".npz":
        raise DataError(
            f"a checkpoint is wanted, {path} is a file of numpy arrays such as RANGE's database",
            remedy="give the checkpoint; that of RANGE is SatCLIP's, satclip-vit16-l40.ckpt",
        )
    content = _read_torch(path)
    if not isinstance(content, Mapping):
        raise DataError(
            f"a checkpoint is a dict of tensors, {path} holds a {type(content).__name__}",
            remedy="save the model's state_dict()",
        )
    state = content.get("state_dict", content.get("model_state_dict", content))
    settings = content.get("hyper_parameters", content.get("params", {}))
    if isinstance(settings, argparse.Namespace):
        settings = vars(settings)
    tensors = {
        str(key): array
        for key, value in (state.items() if isinstance(state, Mapping) else ())
        if (array := _array(value)) is not None
    }
    return _Read(path, tensors, dict(settings) if isinstance(settings, Mapping) else {})


def _array(value: Any) -> NDArray[np.floating] | None:
    import torch

    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return None
    value = value.detach()
    return (value if value.dtype == torch.float64 else value.float()).numpy()


def _read_safetensors(path: Path) -> _Read:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            settings = opened.metadata() or {}
    except (SafetensorError, OSError, TypeError) as error:
        raise _damaged(path, error) from error
    floats = {
        key: value if value.dtype == np.float64 else value.astype(np.float32)
        for key, value in tensors.items()
        if np.issubdtype(value.dtype, np.floating)
    }
    return _Read(path, floats, dict(settings))


def _inert() -> list[Any]:
    """Types that hold values and do nothing else; training scripts leave them beside weights."""
    scalar: Any
    array: Any
    scalar, array = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
    numbers = [np.dtype, np.ndarray, *{type(np.dtype(code)) for code in "?bBhHiIlLqQfdU"}]
    renamed = [
        (function, f"numpy.{core}.multiarray.{function.__name__}")
        for core in ("core", "_core")
        for function in (scalar, array)
    ]
    plain = [argparse.Namespace, collections.defaultdict, dict, list, pathlib.PosixPath]
    return [*plain, *numbers, *renamed]


def _read_torch(path: Path) -> Any:
    import warnings

    import torch

    try:
        if path.stat().st_size and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as opened:
                if bad := opened.testzip():
                    raise _damaged(path, f"the checksum of {bad} is wrong")
        with torch.serialization.safe_globals(_inert()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        said = str(error)
        named = re.search(r"(?:GLOBAL|Unsupported (?:class|global):?(?: GLOBAL)?) ([\w.]+)", said)
        if named or path.read_bytes()[:1] == b"\x80":
            what = named[1] if named else "what it names"
            raise DataError(
                f"{path} is refused because reading it would run {what}, and only tensors and "
                "plain values are read from checkpoints",
                remedy="ask its author for a .safetensors file, or save only the state_dict()",
            ) from None
        raise _damaged(path, error) from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, IndexError) as error:
        raise _damaged(path, error) from error
    except (zipfile.BadZipFile, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: object) -> DataError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    first = first.split(". ")[0][:120].rstrip(".")
    return DataError(
        f"{path} ({path.stat().st_size:,} bytes) is no complete checkpoint ({first})", remedy=_AGAIN
    )


# ----------------------------------------------------------------------------------- families


def _siren(read: _Read, precision: str) -> Siren:
    """SatCLIP and OSMGraphCLIP: spherical harmonics through a sinusoidal network.

    Published files hold the network twice, as `nnet.*` and `location.nnet.*`.
    """
    copies: dict[str, dict[str, NDArray[np.floating]]] = {}
    for key, value in read.tensors.items():
        if found := re.match(r"((?:.*\.)?nnet\.)(.*)$", key):
            copies.setdefault(found[1], {})[found[2]] = value
    prefix = max(copies, key=lambda name: ("location." in name, len(copies[name])))
    for other, tensors in copies.items():
        for name, value in tensors.items():
            twin = copies[prefix].get(name)
            if twin is not None and not np.array_equal(twin, value, equal_nan=True):
                raise DataError(
                    f"{read.path} holds the location network twice, and {other}{name} differs "
                    f"from {prefix}{name}",
                    remedy="keep the one that was trained",
                )
    hidden = sorted(
        int(found[1])
        for name in copies[prefix]
        if (found := re.match(r"layers\.(\d+)\.weight$", name))
    )
    names = [*(f"{prefix}layers.{i}" for i in range(max(hidden, default=0) + 1))]
    columns = read.need(f"{names[0]}.weight", 2).shape[1]
    layers = read.chain([*names, f"{prefix}last_layer"], columns)

    degrees, convention, notes = _basis(read, columns)
    family = "OSMGraphCLIP" if _is_osmgraphclip(read.tensors) else "SatCLIP"
    return Siren(
        weights=tuple(weight for weight, _ in layers),
        biases=tuple(bias for _, bias in layers),
        convention=convention,
        card=_siren_card(family, degrees, convention, notes),
        precision=precision,
    )


def _is_osmgraphclip(tensors: Mapping[str, Any]) -> bool:
    marks = ("graph.convs.", "osm_aggr", "type_attention", "band_encoder.", "graph_proj")
    return any(mark in key for key in tensors for mark in marks)


def _basis(read: _Read, columns: int) -> tuple[int, Convention, list[str]]:
    """Degrees and convention of the harmonics, checked against the width of the first layer."""
    degrees = round(columns**0.5)
    settings, notes = read.settings, []
    for key, wanted in (("le_type", "sphericalharmonics"), ("pe_type", "siren")):
        if settings.get(key, wanted) != wanted:
            raise DataError(
                f"{read.path} was trained with {key}={settings[key]!r}, and only {wanted!r} is "
                "read here",
                remedy="use a checkpoint of the published kind",
            )
    if degrees**2 != columns or degrees > MAX_DEGREES:
        raise DataError(
            f"the first layer in {read.path} reads {columns:,} numbers, and spherical harmonics "
            f"have a square number of them, {MAX_DEGREES**2:,} at most",
            remedy="check that it is a SatCLIP or OSMGraphCLIP location network",
        )
    told = settings.get("legendre_polys", degrees)
    if int(told) != degrees:
        raise DataError(
            f"the hyper-parameters in {read.path} say legendre_polys={told}, and its first layer "
            f"reads {columns:,} = {degrees}^2 numbers",
            remedy="the file mixes two models; " + _AGAIN,
        )
    convention = settings.get("harmonics_calculation")
    if convention is None:
        notes.append(
            "The file does not say which spherical harmonics it was trained on; 'analytic' is "
            "assumed, as in the published weights."
        )
        convention = "analytic"
    if convention not in CONVENTIONS:
        raise DataError(
            f"{read.path} was trained with harmonics_calculation={convention!r}, and only "
            f"{listing(CONVENTIONS)} are read here",
            remedy="use a checkpoint of the published kind",
        )
    return degrees, convention, notes


def _siren_card(family: str, degrees: int, convention: str, notes: list[str]) -> Card:
    limits = list(notes)
    if convention == "analytic" and degrees > 30:
        limits.append(
            "Beyond 45 degrees of latitude the authors' own code loses digits of the high "
            "degrees; the exact basis here then differs from it (below 45 degrees by 1e-4 at most)."
        )
    sat = family == "SatCLIP"
    return Card(
        name=f"{family.lower()}-l{degrees}",
        title=f"{family} location encoder with {degrees} degrees of spherical harmonics",
        authors="K. Klemmer, E. Rolf, C. Robinson, L. Mackey, M. Rußwurm"
        if sat
        else "D. Michail and others",
        year=2023 if sat else 2026,
        arxiv="2311.17179" if sat else "",
        family="location encoders",
        reads=("lonlat",),
        needs=("lonlat",),
        gives="one embedding a point, no unit",
        kept=f"location network and its basis ({convention}), equal to the authors' code",
        left_out="the image side" if sat else "the graph and band encoders",
        data="Sentinel-2 patches of S2-100K" if sat else "OpenStreetMap neighbourhoods",
        licence="MIT",
        known_limits=tuple(limits),
    )


def _geoclip(read: _Read, precision: str) -> FourierCapsules:
    roots = sorted(
        {found[1] for key in read.tensors if (found := re.match(r"(.*LocEnc\d+)\.", key))},
        key=lambda name: int(re.sub(r".*LocEnc", "", name)),
    )
    frequencies, weights, biases = [], [], []
    for root in roots:
        frequency = read.need(f"{root}.capsule.0.b", 2)
        names = sorted(
            {
                int(found[1])
                for key in read.tensors
                if key.startswith(f"{root}.capsule.")
                and (found := re.search(r"capsule\.(\d+)\.weight$", key))
            }
        )
        layers = read.chain(
            [*(f"{root}.capsule.{i}" for i in names), f"{root}.head.0"], 2 * len(frequency)
        )
        if frequency.shape[1] != 2 or (weights and len(layers[-1][0]) != len(weights[0][-1])):
            raise DataError(
                f"the capsules of {read.path} must read 2 coordinates and give equal widths, "
                f"{root} reads {frequency.shape[1]} and gives {len(layers[-1][0])}",
                remedy=_AGAIN,
            )
        frequencies.append(frequency)
        weights.append(tuple(weight for weight, _ in layers))
        biases.append(tuple(bias for _, bias in layers))
    card = Card(
        name="geoclip",
        title="GeoCLIP location encoder: random Fourier features of an Equal Earth map",
        authors="V. Vivanco Cepeda, G. K. Nayak, M. Shah",
        year=2023,
        arxiv="2309.16020",
        family="location encoders",
        reads=("lonlat",),
        needs=("lonlat",),
        gives=f"{len(weights[0][-1])} numbers a point, no unit",
        kept="location encoder with all its capsules, equal to the authors' code",
        left_out="the image side and the search in the gallery of coordinates",
        data="4.7 million geotagged photographs (MP-16)",
        licence="MIT",
        known_limits=(
            "Photographs are where people are: oceans, deserts and the poles were hardly seen.",
        ),
    )
    return FourierCapsules(
        tuple(frequencies), tuple(weights), tuple(biases), card, precision=precision
    )


def _sinr(read: _Read, precision: str) -> ResidualNet:
    root = next(
        found[1]
        for key in read.tensors
        if (found := re.match(r"(.*?)feats\.\d+\.w1\.weight$", key))
    )
    first = read.layer(f"{root}feats.0")
    if first[0].shape[1] != 4:
        raise DataError(
            f"{root}feats.0.weight in {read.path} reads {first[0].shape[1]} numbers, and the "
            "coordinates of SINR are 4",
            remedy="use weights that were trained on coordinates alone, not on climate rasters",
        )
    numbers = sorted(
        int(found[1])
        for key in read.tensors
        if (found := re.fullmatch(re.escape(root) + r"feats\.(\d+)\.w1\.weight", key))
    )
    width = len(first[0])
    blocks = []
    for i in numbers:
        pair = read.chain([f"{root}feats.{i}.w1", f"{root}feats.{i}.w2"], width)
        if len(pair[1][0]) != width:
            raise DataError(
                f"{root}feats.{i}.w2.weight in {read.path} must give {width} numbers, it gives "
                f"{len(pair[1][0])}",
                remedy=_AGAIN,
            )
        blocks.append((pair[0], pair[1]))
    card = Card(
        name="sinr",
        title="SINR location features: a residual network trained on species observations",
        authors="E. Cole, G. Van Horn, C. Lange, A. Shepard, P. Leary, P. Perona, S. Loarie, "
        "O. Mac Aodha",
        year=2023,
        arxiv="2306.02564",
        family="location encoders",
        reads=("lonlat",),
        needs=("lonlat",),
        gives=f"{width} numbers a point, not negative, no unit",
        kept="coordinate features and all residual blocks",
        left_out="the heads of the species (class_emb) and climate rasters as input",
        data="35 million observations of 47,375 species (iNaturalist)",
        licence="MIT",
        known_limits=("Both poles have the same latitude features, and so the same codes.",),
    )
    return ResidualNet(first, tuple(blocks), card, precision=precision)
