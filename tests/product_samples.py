"""Small real maps, places and scores to write products from.

The temperatures are 64 of the 270 city means of the package world-temperature-data 0.1.0 (CHELSA
v2.1 normals 1981-2010, CC-BY-4.0); the map between them is inverse-distance weighting.
"""

import io
import itertools
from pathlib import Path

import geopandas as gpd
import numpy as np
import odc.geo.xr  # noqa: F401
import pandas as pd
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

from georama.card import Card
from georama.products.overview import along
from georama.sources import natural_earth

CITIES = """city,lon,lat,annual_c
Madrid,-3.7,40.42,14.6
Valencia,-0.38,39.47,18.2
Málaga,-4.42,36.72,17.9
Las Palmas,-15.44,28.12,18.7
Santa Cruz de Tenerife,-16.25,28.47,19.0
Amsterdam,4.9,52.37,10.1
Prague,14.44,50.08,9.5
Rome,12.5,41.9,16.0
Milan,9.19,45.46,13.5
Palermo,13.36,38.12,18.4
Athens,23.73,37.98,18.1
Skopje,21.43,41.99,13.1
Copenhagen,12.57,55.68,8.4
London,-0.13,51.51,10.6
Yerevan,44.51,40.18,11.9
Cairo,31.24,30.04,22.0
Cape Town,18.42,-33.93,16.0
Johannesburg,28.04,-26.2,14.9
Accra,-0.2,5.56,26.3
Delhi,77.23,28.66,24.8
Kathmandu,85.32,27.72,18.4
Dhaka,90.41,23.72,25.5
Lahore,74.34,31.55,23.9
Ho Chi Minh City,106.63,10.82,27.5
Hanoi,105.85,21.03,24.1
Hoi An,108.34,15.88,26.2
Jakarta,106.85,-6.21,26.8
Cebu,123.9,10.32,27.3
Vientiane,102.6,17.97,26.4
Yangon,96.19,16.87,27.5
Ulaanbaatar,106.91,47.9,-1.4
Perth,115.86,-31.95,18.6
Gold Coast,153.43,-28.02,20.4
Playa del Carmen,-87.08,20.63,25.9
San José,-84.08,9.93,20.5
La Paz,-68.15,-16.5,8.9
Santiago,-70.65,-33.46,15.6
Fortaleza,-38.54,-3.72,26.8
Miami,-80.19,25.77,24.5
San Francisco,-122.42,37.77,13.4
Seattle,-122.33,47.61,11.0
Montréal,-73.55,45.51,6.9
Nassau,-77.34,25.04,24.9
Bridgetown,-59.61,13.1,26.3
Pai,98.44,19.36,25.0
Nha Trang,109.19,12.24,26.7
Luang Prabang,102.14,19.89,25.5
Antigua,-90.73,14.56,17.3
Ohrid,20.8,41.12,11.3
Mostar,17.81,43.34,13.8
Sarajevo,18.41,43.85,9.1
Fes,-5,34.04,18.6
Nadi,177.43,-17.77,25.2
Honolulu,-157.86,21.31,23.8
Guadalajara,-103.35,20.67,20.5
San Cristóbal de las Casas,-92.64,16.74,14.6
Tulum,-87.46,20.21,25.8
Porto Alegre,-51.23,-30.03,19.7
Pokhara,83.99,28.21,19.5
Varanasi,83,25.32,25.8
Vung Tau,107.08,10.35,26.8
Chișinău,28.86,47.01,10.2
Moscow,37.62,55.75,5.4
Saint Petersburg,30.32,59.93,4.8
"""
RADIUS_KM = 6371.0088


def cities(path: Path | None = None) -> gpd.GeoDataFrame:
    table = pd.read_csv(path or io.StringIO(CITIES))
    points = gpd.points_from_xy(table.pop("lon"), table.pop("lat"))
    return gpd.GeoDataFrame(table, geometry=points, crs="EPSG:4326")


def lonlat_of(places: gpd.GeoDataFrame) -> np.ndarray:
    return np.column_stack([places.geometry.x, places.geometry.y])


def distances_km(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    def sphere(lonlat):
        lon, lat = np.radians(lonlat).T
        return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])

    return RADIUS_KM * np.arccos(np.clip(sphere(a) @ sphere(b).T, -1, 1))


def interpolate(known, values, asked):
    """Inverse-distance weights, an 80th-percentile-like spread, and the nearest distance."""
    gaps = distances_km(asked, known)
    weights = 1 / (gaps + 50) ** 2.5
    weights /= weights.sum(1, keepdims=True)
    mean = weights @ values
    spread = np.sqrt(np.maximum(weights @ values**2 - mean**2, 0)) + gaps.min(1) / 400 + 0.5
    return mean, spread, gaps.min(1)


def grid_lonlat(box: GeoBox) -> np.ndarray:
    y, x = np.mgrid[: box.shape[0], : box.shape[1]] + 0.5
    lon, lat = along(box.transform, x.ravel(), y.ravel())
    return np.column_stack([lon, lat])


def mapped_of(places, shape=(90, 180), bbox=(-180, -90, 180, 90), land_only=True) -> xr.Dataset:
    box = GeoBox.from_bbox(bbox, crs="EPSG:4326", shape=shape)
    asked = grid_lonlat(box)
    mean = np.empty(len(asked))
    spread, near = mean.copy(), mean.copy()
    for start in range(0, len(asked), 50_000):
        rows = slice(start, start + 50_000)
        mean[rows], spread[rows], near[rows] = interpolate(
            lonlat_of(places), places["annual_c"].to_numpy(), asked[rows]
        )
    seen = natural_earth.is_land(asked) if land_only else np.ones(len(asked), bool)

    def layer(values, dtype="float32"):
        return wrap_xr(np.asarray(values).reshape(shape).astype(dtype), box)

    return xr.Dataset(
        {
            "prediction": layer(np.where(seen, mean, np.nan)),
            "lower": layer(np.where(seen, mean - spread, np.nan)),
            "upper": layer(np.where(seen, mean + spread, np.nan)),
            "applicable": layer(np.where(seen, near < 1500, 255), "uint8"),
        },
        attrs={
            "target": "annual_c",
            "unit": "°C",
            "kind": "regression",
            "level": 0.9,
            "title": "Mean annual air temperature",
        },
    )


def classes_of(mapped: xr.Dataset, count=5) -> xr.Dataset:
    """Temperature belts out of a temperature map."""
    edges = np.linspace(0, 26, count - 1)
    names = [f"belt {i}: above {e:.0f} °C" for i, e in enumerate([-40, *edges])]
    index = np.digitize(mapped.prediction, edges).astype("float32")
    index[np.isnan(mapped.prediction.to_numpy())] = np.nan
    width = (mapped.upper - mapped.lower).to_numpy()
    out = mapped.copy()
    out["prediction"] = (("latitude", "longitude"), index)
    out["lower"] = (("latitude", "longitude"), np.exp(-width / 20).astype("float32"))
    out["upper"] = (("latitude", "longitude"), np.clip(np.round(width / 5), 1, count))
    out = out.assign_attrs(
        kind="classification", classes=names, unit="", target="belt", title="Temperature belts"
    )
    for name in ("prediction", "lower", "upper"):
        out[name] = mapped[name].copy(data=out[name].to_numpy().astype("float32"))
    return out


def checked_of(places: gpd.GeoDataFrame) -> pd.DataFrame:
    """Out-of-fold results: random folds, blocks of 30 degrees, and blocks 2000 km apart."""
    points, values = lonlat_of(places), places["annual_c"].to_numpy()
    blocks = np.floor(points[:, 0] / 30).astype(int) * 10 + np.floor(points[:, 1] / 30).astype(int)
    parts = []
    for scheme in ("random", "blocks", "far"):
        folds = np.arange(len(points)) % 5 if scheme == "random" else blocks % 5
        for fold in np.unique(folds):
            test = folds == fold
            train = ~test
            if scheme == "far":
                train &= distances_km(points, points[test]).min(1) > 1000
            mean, spread, near = interpolate(points[train], values[train], points[test])
            parts.append(
                pd.DataFrame(
                    {
                        "lon": points[test, 0],
                        "lat": points[test, 1],
                        "truth": values[test],
                        "prediction": mean,
                        "lower": mean - spread,
                        "upper": mean + spread,
                        "distance_km": near,
                        "scheme": scheme,
                    }
                )
            )
    checked = pd.concat(parts, ignore_index=True)
    checked["continent"] = natural_earth.continent_of(checked[["lon", "lat"]].to_numpy())
    return checked


def _figures(rows: pd.DataFrame) -> dict[str, float]:
    error = rows.prediction - rows.truth
    return {
        "r2": float(1 - (error**2).sum() / ((rows.truth - rows.truth.mean()) ** 2).sum()),
        "rmse": float((error**2).mean() ** 0.5),
        "mae": float(error.abs().mean()),
    }


def _covered(rows: pd.DataFrame) -> float:
    return float(((rows.truth >= rows.lower) & (rows.truth <= rows.upper)).mean())


def scores_of(checked: pd.DataFrame) -> dict:
    schemes = {str(name): rows for name, rows in checked.groupby("scheme")}
    ours = {name: _figures(rows) for name, rows in schemes.items()}
    flat = {
        name: _figures(rows.assign(prediction=rows.truth.mean())) for name, rows in schemes.items()
    }
    worse = {
        k: {"r2": v["r2"] - 0.06, "rmse": v["rmse"] * 1.2, "mae": v["mae"] * 1.2}
        for k, v in ours.items()
    }
    far = schemes["far"]
    edges = [0, 100, 300, 1000, 3000, 10000]
    by_distance = []
    for low, high in itertools.pairwise(edges):
        rows = checked.query("@low <= distance_km < @high")
        if len(rows):
            figures = _figures(rows)
            by_distance.append(
                {"km_from": low, "km_to": high, "n": len(rows), "mae": figures["mae"],
                 "rmse": figures["rmse"], "coverage": _covered(rows)}
            )  # fmt: skip
    return {
        "georama": "0.1.0",
        "target": "annual_c",
        "unit": "°C",
        "kind": "regression",
        "places": {"used": len(schemes["random"]), "dropped": {"no coordinates": 2}},
        "encoder": "world",
        "chosen": "idw",
        "sentence": "In places 1000 km from any training place the map explains "
        f"{100 * ours['far']['r2']:.0f} % of the variation of annual_c, with a typical error of "
        f"{ours['far']['rmse']:.1f} °C.",
        "metric": "r2",
        "models": [
            {"name": "idw", "role": "ours", **ours},
            {"name": "idw without smoothing", "role": "part", **worse},
            {"name": "mean", "role": "baseline", **flat},
        ],
        "intervals": {
            "level": 0.9,
            "coverage": {name: _covered(rows) for name, rows in schemes.items()},
            "width": {name: float((r.upper - r.lower).mean()) for name, r in schemes.items()},
            "by_continent": {
                str(name): {"n": len(r), "coverage": _covered(r), "rmse": _figures(r)["rmse"]}
                for name, r in far.groupby("continent")
            },
        },
        "error_by_distance": by_distance,
        "calibration": [
            {"level": q, "covered": float(np.clip(q + 0.05 * np.sin(9 * q), 0, 1))}
            for q in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
        ],
        "applicability": {
            "share": 0.93,
            "limit_km": 1500,
            "rule": "a cell is applicable when a training place lies within 1500 km",
        },
        "leakage": {"duplicates": 1, "verdict": "no leakage found between the blocks"},
        "external": [
            {"name": "stations of another network", "n": 812, "r2": 0.81, "rmse": 3.1, "mae": 2.2,
             "coverage": 0.88}
        ],
        "notes": ["2 rows without coordinates were left out", "sea is not mapped"],
        "seconds": {"read": 0.1, "fit": 3.2, "map": 12.5},
        "provenance": {
            "command": "georama map cities.csv --target annual_c",
            "inputs": {"cities.csv": "0" * 64},
            "model_sha256": None,
            "parameters": {"resolution": 1.0, "seed": 0},
            "versions": {"python": "3.11", "numpy": "2"},
            "created": "2026-01-01T00:00:00Z",
        },
    }  # fmt: skip


def card() -> Card:
    return Card(
        name="idw",
        title="Inverse-distance weighting of the nearest places",
        authors="D. Shepard",
        year=1968,
        family="interpolation",
        reads=("places",),
        needs=("places",),
        gives="one value a place, in the unit of the places",
        kept="the weights of the paper",
        left_out="its slope correction, which needs derivatives",
        data="64 cities, measured",
        licence="CC-BY-4.0",
        known_limits=("does not know about mountains",),
        scores={"r2": {"blocks": 0.7}},
    )
