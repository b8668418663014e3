"""Catalogues are served by this machine to itself from files that the tests write."""

import json
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio import Affine
from rasterio.warp import transform_bounds
from shapely.geometry import mapping

from georama.errors import DataError, NetworkError, UsageError
from georama.sources.stac import _boxes, find_rasters

UTM = Affine(10, 0, 500_000, 0, -10, 6_700_000)
BOUNDS = (500_000, 6_697_000, 504_000, 6_700_000)


def places(lonlat):
    return gpd.GeoDataFrame(geometry=gpd.points_from_xy(*np.array(lonlat).T), crs="EPSG:4326")


AT = places([[15.005, 60.435], [15.06, 60.43]])


def test_without_the_package_the_install_line_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pystac_client", None)
    with pytest.raises(UsageError, match=r"pip install 'georama\[stac\]'"):
        find_rasters("catalog.json", AT)


def test_boxes_follow_the_places_over_the_antimeridian():
    east, west = _boxes(np.array([[179.0, 1.0], [-178.0, 2.0]]), 0.0)
    assert east == (179.0, 1.0, 180.0, 2.0)
    assert west == (-180.0, 1.0, -178.0, 2.0)
    assert _boxes(np.array([[10.0, 1.0], [20.0, 2.0]]), 0.0) == [(10.0, 1.0, 20.0, 2.0)]


@pytest.fixture
def catalogue(tmp_path):
    """A folder with a static catalogue, an item collection and the body of an API."""
    pytest.importorskip("pystac_client", reason="pystac-client is absent (georama[stac])")
    items = []
    for day, cloud, value in (("2020-06-01", 80, 10), ("2020-07-01", 5, 20), ("2021-07-01", 1, 30)):
        folder = tmp_path / "scenes" / f"s{day}"
        folder.mkdir(parents=True)
        for name, more in (("red", 0), ("nir", 1)):
            data = np.full((300, 400), value + more, "float32")
            data[:, 200:] = np.where(value == 20, -1, data[:, 200:])
            with rasterio.open(
                folder / f"{name}.tif", "w", driver="GTiff", crs="EPSG:32633", transform=UTM,
                height=300, width=400, count=1, dtype="float32", nodata=-1, tiled=True,
                blockxsize=64, blockysize=64,
            ) as file:  # fmt: skip
                file.write(data[None])
        box = transform_bounds("EPSG:32633", "EPSG:4326", *BOUNDS)
        items.append({
            "type": "Feature", "stac_version": "1.0.0", "id": f"s{day}", "collection": "scenes",
            "geometry": mapping(shapely.box(*box)),
            "bbox": list(box), "links": [],
            "properties": {"datetime": f"{day}T10:00:00Z", "eo:cloud_cover": cloud},
            "assets": {
                name: {"href": f"./{name}.tif", "type": "image/tiff; application=geotiff"}
                for name in ("red", "nir")
            },
        })  # fmt: skip
    for item in items:
        path = tmp_path / "scenes" / item["id"] / "item.json"
        links = [
            {"rel": "root", "href": "../../catalog.json"},
            {"rel": "parent", "href": "../collection.json"},
        ]
        path.write_text(json.dumps({**item, "links": links}))
    everything = [[-180, -90, 180, 90]]
    collection = {
        "type": "Collection", "stac_version": "1.0.0", "id": "scenes", "description": "scenes",
        "license": "other", "extent": {"spatial": {"bbox": everything},
                                       "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]}},
        "links": [{"rel": "item", "href": f"./{item['id']}/item.json"} for item in items],
    }  # fmt: skip
    (tmp_path / "scenes" / "collection.json").write_text(json.dumps(collection))
    root = {
        "type": "Catalog", "stac_version": "1.0.0", "id": "root", "description": "all",
        "links": [{"rel": "child", "href": "./scenes/collection.json"}],
    }  # fmt: skip
    (tmp_path / "catalog.json").write_text(json.dumps(root))
    return tmp_path, items, collection


class Handler(SimpleHTTPRequestHandler):
    """Files with byte ranges, and the three addresses of a STAC API below /api."""

    items: list[dict[str, Any]]
    collection: dict[str, Any]
    broken = False

    @property
    def here(self):
        return f"http://{self.headers['Host']}"

    def log_message(self, format, *args):
        pass

    def answer(self, body, code=200):
        raw = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def search(self, asked):
        if self.broken:
            return self.answer({"description": "out of order"}, 500)
        west, south, east, north = (float(v) for v in asked["bbox"])
        found = []
        for item in self.items:
            w, s, e, n = item["bbox"]
            if w <= east and e >= west and s <= north and n >= south:
                base = f"{self.here}/scenes/{item['id']}/"
                assets = {k: {**v, "href": base + f"{k}.tif"} for k, v in item["assets"].items()}
                found.append({**item, "assets": assets})
        return self.answer({"type": "FeatureCollection", "features": found, "links": []})

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        self.search(json.loads(self.rfile.read(length)))

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        here = f"{self.here}/api"
        if parts.path == "/api/search":
            asked = {k: v[0] for k, v in parse_qs(parts.query).items()}
            return self.search({**asked, "bbox": asked["bbox"].split(",")})
        if parts.path == "/api/collections":
            links = [{"rel": "self", "href": f"{here}/collections"}]
            return self.answer({"collections": [{**self.collection, "links": []}], "links": links})
        if parts.path.rstrip("/") == "/api":
            core = "https://api.stacspec.org/v1.0.0/"
            return self.answer({
                "type": "Catalog", "stac_version": "1.0.0", "id": "api", "description": "api",
                "conformsTo": [core + "core", core + "item-search", core + "collections"],
                "links": [
                    {"rel": "self", "href": here}, {"rel": "root", "href": here},
                    {"rel": "data", "href": f"{here}/collections"},
                    {"rel": "search", "href": f"{here}/search", "method": "POST",
                     "type": "application/geo+json"},
                ],
            })  # fmt: skip
        asked = self.headers.get("Range")
        path = Path(self.translate_path(self.path))
        if not asked or not path.is_file():
            return super().do_GET()
        begin, _, end = asked.removeprefix("bytes=").partition("-")
        raw = path.read_bytes()
        stop = min(int(end) + 1 if end else len(raw), len(raw))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{stop - 1}/{len(raw)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - int(begin)))
        self.end_headers()
        self.wfile.write(raw[int(begin) : stop])
        return None


@pytest.fixture
def server(catalogue, monkeypatch):
    folder, items, collection = catalogue
    for name in (
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = type("Own", (Handler,), {"items": items, "collection": collection})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as one:
        thread = threading.Thread(target=one.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{one.server_port}", handler
        one.shutdown()


def test_a_static_catalogue_on_disk(catalogue):
    folder, *_ = catalogue
    red, nir = find_rasters(folder / "catalog.json", AT, assets=["red", "nir"], size_m=[0])
    # The least cloudy first: 2021, and in 2020 the one of July, whose east is empty.
    assert red.observe(AT).values[:, 0].tolist() == [30, 30]
    assert nir.name == "nir"
    assert nir.columns == ("band 1@pixel",)
    year = {"datetime": "2020-01-01/2020-12-31", "assets": ["red"], "size_m": [0]}
    (of_2020,) = find_rasters(folder / "catalog.json", AT, **year)
    assert of_2020.observe(AT).values[:, 0].tolist() == [20, 10]
    (june,) = find_rasters(folder / "catalog.json", AT, when="2020-06-03", **year)
    assert june.observe(AT).values[:, 0].tolist() == [10, 10]
    (of_july,) = find_rasters(folder / "scenes" / "collection.json", AT, assets=["red"],
                              datetime="2020-07", size_m=[0])  # fmt: skip
    assert of_july.observe(AT).present.tolist() == [True, False]


def test_an_item_collection_on_disk(catalogue):
    folder, items, _ = catalogue
    for item in items:
        for name, asset in item["assets"].items():
            asset["href"] = str(folder / "scenes" / item["id"] / f"{name}.tif")
    path = folder / "found.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    (red,) = find_rasters(path, AT, assets=["red"], size_m=[0])
    assert red.observe(AT).values[:, 0].tolist() == [30, 30]


@pytest.mark.parametrize("address", ["/api", "/catalog.json"])
def test_catalogues_and_files_over_http(server, address):
    url, _ = server
    (red,) = find_rasters(url + address, AT, assets=["red"], collections=["scenes"],
                          datetime="2020-01-01/2020-12-31", size_m=[0, 300])  # fmt: skip
    assert red.layers[0].path.startswith("http://127.0.0.1")
    assert red.observe(AT).values[:, 0].tolist() == [20, 10]


def test_the_network_fails_loudly(server):
    url, handler = server
    handler.broken = True
    with pytest.raises(NetworkError, match="cannot be searched") as error:
        find_rasters(url + "/api", AT, assets=["red"])
    assert error.value.exit_code == 4
    with pytest.raises(NetworkError):
        find_rasters(url + "/nothing/catalog.json", AT)
    with pytest.raises(NetworkError):
        find_rasters("http://127.0.0.1:1/api", AT)


def test_a_part_of_a_remote_catalogue_that_is_gone(server, catalogue):
    folder, *_ = catalogue
    (folder / "scenes" / "s2020-06-01" / "item.json").unlink()
    with pytest.raises(NetworkError):
        find_rasters(server[0] + "/catalog.json", AT, assets=["red"])
    with pytest.raises(DataError, match="is missing"):
        find_rasters(folder / "catalog.json", AT, assets=["red"])


def test_what_is_not_there_is_named(catalogue):
    folder, *_ = catalogue
    root = folder / "catalog.json"
    with pytest.raises(UsageError, match="2 raster assets: red and nir; say which"):
        find_rasters(root, AT)
    with pytest.raises(UsageError, match="asset “rad”; they have red"):
        find_rasters(root, AT, assets=["rad"])
    with pytest.raises(UsageError, match="no collection “scene”; it has scenes"):
        find_rasters(root, AT, collections=["scene"])
    with pytest.raises(DataError, match="no item around the 1 place in 2020"):
        find_rasters(root, places([[0, 0]]), datetime="2020")
    with pytest.raises(UsageError, match="dates look like"):
        find_rasters(root, AT, datetime="soon")
    with pytest.raises(DataError, match="there is no file"):
        find_rasters(folder / "no.json", AT)
    (folder / "x.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        find_rasters(folder / "x.json", AT)
    (folder / "x.json").write_text("{}")
    with pytest.raises(DataError, match="is no catalogue"):
        find_rasters(folder / "x.json", AT)
