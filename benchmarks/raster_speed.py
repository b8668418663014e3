"""Windows around places: `Rasters.observe` against a plain loop of rasterio, side by side.

    python benchmarks/raster_speed.py [--places 2000] [--bands 8] [--side 8192]

The raster is simulated: a cloud-optimised layout of 512 × 512 blocks, deflate, 16 bits, 10 m. The
loop opens the file once, reads a window for each place and size, in the order of the table, and
takes mean, deviation and two quantiles with numpy. Both are one process; times are the best of
three, taken turn by turn, in processor seconds, since both use one thread and whatever else the
machine does would fall on one of them.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import rasterio
from rasterio import Affine
from rasterio.windows import Window, from_bounds

from georama.sources.windows import Rasters

UTM = Affine(10, 0, 500_000, 0, -10, 6_700_000)


def simulated(path, side, bands):
    rng = np.random.default_rng(0)
    with rasterio.open(
        path, "w", driver="GTiff", crs="EPSG:32633", transform=UTM, height=side, width=side,
        count=bands, dtype="uint16", tiled=True, blockxsize=512, blockysize=512, nodata=0,
        compress="deflate", zlevel=1,
    ) as file:  # fmt: skip
        across = np.sin(np.arange(side) / 70)
        for top in range(0, side, 512):
            rows = min(512, side - top)
            down = np.sin(np.arange(top, top + rows) / 90)[:, None]
            noise = rng.normal(1500, 60, (bands, rows, side))
            values = (noise + 400 * (down + across)).clip(1).astype("uint16")
            file.write(values, window=Window.from_slices((top, top + rows), (0, side)))


def naive(path, places, sizes):
    out = []
    with rasterio.open(path) as file:
        to_file = pyproj.Transformer.from_crs("EPSG:4326", file.crs, always_xy=True)
        x, y = to_file.transform(places.geometry.x.to_numpy(), places.geometry.y.to_numpy())
        for east, north in zip(x, y, strict=True):
            row = []
            for size in sizes:
                half = size / 2
                window = from_bounds(
                    east - half, north - half, east + half, north + half, file.transform
                )
                window = window.round_offsets().round_lengths()
                for band in file.read(window=window, masked=True):
                    known = band.compressed().astype("float32")
                    if known.size:
                        row += [known.mean(), known.std(), *np.quantile(known, [0.1, 0.9])]
                    else:
                        row += [np.nan] * 4
            out.append(row)
    return np.array(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", type=int, default=2000)
    parser.add_argument("--bands", type=int, default=8)
    parser.add_argument("--side", type=int, default=8192)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"
        simulated(path, asked.side, asked.bands)
        rng = np.random.default_rng(1)
        x, y = UTM @ tuple(rng.uniform(0.03, 0.97, (2, asked.places)) * asked.side)
        back = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
        lon, lat = back.transform(x, y)
        places = gpd.GeoDataFrame(geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326")
        print(
            f"{asked.places} places, {asked.side} × {asked.side} pixels, {asked.bands} bands, "
            f"load {os.getloadavg()[0]:.1f}"
        )
        for sizes in ([500], [500, 2000]):
            source = Rasters(path, size_m=sizes)
            source.observe(places.iloc[:3])  # compiles
            best = [np.inf, np.inf]
            for _ in range(3):
                for i, call in enumerate(
                    (lambda s=source: s.observe(places), lambda z=sizes: naive(path, places, z))
                ):
                    begin = time.process_time()
                    call()
                    best[i] = min(best[i], time.process_time() - begin)
            windows = asked.places * len(sizes)
            print(
                f"windows of {sizes} m: ours {best[0]:.2f} s ({windows / best[0]:,.0f} windows a "
                f"second), loop {best[1]:.2f} s ({windows / best[1]:,.0f}), "
                f"{best[1] / best[0]:.1f} times"
            )


if __name__ == "__main__":
    main()
