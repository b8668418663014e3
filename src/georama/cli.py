"""The command line: parse, call the function of the same name, print.

Nothing heavy is imported here: each command imports its verb when it runs, so that help and usage
errors answer at once.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import sys
import traceback
from dataclasses import asdict
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import georama
from georama.errors import DataError, GeoramaError, UsageError

if TYPE_CHECKING:
    import pandas as pd

INTERRUPTED = 130
BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell reports it
LACKING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENOMEM}
MOST_LINES = 6

WELCOME = """\
georama {version}: a table of places with a label goes in, a map with its honest error comes out.

Five things to do, each a line to copy:

  Map what you measured, with intervals, a picture and a report
      georama map stations.csv --target temperature --unit "°C"
  Ask the same for places of your own instead of a map
      georama map stations.csv --target temperature --at villages.csv
  Turn places into representations, one row each
      georama embed places.csv --out places.parquet
  Find the places that are most like one
      georama search places.csv --like 60.17N,24.94E
  See what there is, and whether this machine has all it takes
      georama recipes
      georama doctor

More: georama COMMAND --help
"""

app = typer.Typer(
    name="georama",
    add_completion=False,
    rich_markup_mode=None,  # plain help can be copied, and rich costs a tenth of a second
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
)
data_app = typer.Typer(help="The kit of real data that published packages carry.")
app.add_typer(data_app, name="data")


class _Judge(TyperGroup):
    """Commands of `georama judge`, of which models need not be named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take anything that is no command for models and a protocol."""
        if args and args[0] not in {*self.commands, "--help", "-h"}:
            args = ["models", *args]
        return super().parse_args(ctx, args)


judge_app = typer.Typer(cls=_Judge, help="Benchmarks that one can believe: MODEL… PROTOCOL.")
app.add_typer(judge_app, name="judge")

Places = Annotated[
    Path, typer.Argument(help="CSV, GeoJSON, GeoPackage, Parquet or Shapefile of places.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Plan = Annotated[bool, typer.Option("--plan", help="Say what the work would take, and stop.")]
At = Annotated[Path | None, typer.Option(help="Only at the places of this file.")]
BBox = Annotated[str | None, typer.Option(help="WEST,SOUTH,EAST,NORTH in degrees.")]
Region = Annotated[str | None, typer.Option(help="A country, a continent or world.")]
Resolution = Annotated[float | None, typer.Option(help="Cell size in degrees.")]
Level = Annotated[float, typer.Option(help="Share that the intervals are to hold.")]
Sea = Annotated[
    bool | None,
    typer.Option("--sea/--land", help="Map the sea too, or land only; else as the places lie."),
]
Seed = Annotated[int, typer.Option(help="Same seed, same result.")]
Model = Annotated[
    str, typer.Option(help="world, geoclip, satclip, osmgraphclip, sh10, wrap or a model folder.")
]
Weights = Annotated[Path | None, typer.Option(help="A checkpoint file of that model.")]
Lon = Annotated[str | None, typer.Option(help="Column of the longitude or easting.")]
Lat = Annotated[str | None, typer.Option(help="Column of the latitude or northing.")]
Crs = Annotated[str | None, typer.Option(help="CRS of the coordinates, e.g. EPSG:32633.")]
With = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        help="A layer of your own, may be repeated: FILE.osm.pbf, FILE.tif, text:COLUMN, "
        "columns:A,B, a folder of photographs, place (the shipped place model)…",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="NAME=VALUE of the recipe or its training; may be repeated."),
]
Sensor = Annotated[
    str | None, typer.Option(help="Of the files, e.g. sentinel-2-l2a, where no name tells.")
]
Bands = Annotated[
    str | None, typer.Option(help="Names of all bands in the files' order, - leaves one out.")
]
Wavelengths = Annotated[
    str | None, typer.Option(help="Of the bands in nm, with commas, for a sensor of your own.")
]
Layer = Annotated[str | None, typer.Option(help="Layer of a file that holds several.")]


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Debug = False,
) -> None:
    """Any place on Earth becomes representations, maps and answers, with an honest error."""
    if version:
        print(f"georama {georama.__version__}")
    elif context.invoked_subcommand is None:
        print(WELCOME.format(version=georama.__version__), end="")


@app.command()
def doctor(as_json: AsJson = False, debug: Debug = False) -> None:
    """Check this machine: libraries, drivers, processor, memory, disk, data kit and weights."""
    from georama.verbs.doctor import doctor

    report = doctor()
    print(report.to_json() if as_json else report.to_text(), end="")
    if not report.healthy:
        raise typer.Exit(1)


@app.command()
def recipes(
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="As docs/catalogue.md.")] = False,
    debug: Debug = False,
) -> None:
    """List the recipes, one line each."""
    from georama.verbs.describe import catalogue, list_recipes, recipes_text

    cards = list_recipes()
    if as_json:
        print(json.dumps([asdict(card) for card in cards], indent=2, ensure_ascii=False))
    else:
        print((catalogue if markdown else recipes_text)(cards), end="")


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="A recipe, or the folder of a trained model.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Tell what a recipe or a model is: its paper, what is kept, what is left out, its scores."""
    from georama.verbs.describe import card_text, describe

    card = describe(name)
    print(card.to_json() if as_json else card_text(card), end="")


@data_app.command("list")
def list_kit(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the packages of the kit, and which of them are here."""
    from georama.verbs.data import list_kit

    table = list_kit()
    if as_json:
        print(table.to_json(orient="records", indent=2))
        return
    lacking = [str(name) for name in table.loc[~table["here"].astype(bool), "package"]]
    table["here"] = ["yes" if here else "-" for here in table["here"]]
    _show(table.filter(["package", "version", "mb", "here", "groups", "what"]))
    more = f" To get another: georama data fetch {lacking[0]}" if lacking else " It is complete."
    print(f"\nThe kit lies in {table.attrs['folder']}.{more}")


@data_app.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Packages; none means all.")] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="world, labels, demo, models or scenes; may be repeated."),
    ] = None,
    apt: Annotated[
        bool, typer.Option("--apt", help="Allow apt-get download for what only Debian has.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Download packages of the kit; nothing is installed or run, and checksums are compared."""
    from georama.verbs.data import fetch

    table = fetch(names, group=group, apt=apt)
    if as_json:
        print(table.to_json(orient="records", indent=2))
    else:
        _show(table.filter(["package", "state", "note"]))
        print(f"\nThe kit lies in {table.attrs['folder']}.")


@data_app.command()
def build(debug: Debug = False) -> None:
    """Build the world stack out of the kit, to train with; nothing else needs it."""
    from georama.verbs.data import build

    print(build())


@data_app.command()
def table(
    name: Annotated[str | None, typer.Argument(help="A labelled set; none lists them.")] = None,
    out: Annotated[Path | None, typer.Option(help="By default NAME.csv.")] = None,
    n: Annotated[int | None, typer.Option(help="Draw so many rows at random.")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a labelled set of the kit as a CSV to map; without a name, list the sets."""
    from georama.verbs.data import list_tables, table

    if name is None:
        sets = list_tables()
        if as_json:
            print(sets.to_json(orient="records", indent=2, force_ascii=False))
        else:
            _show(sets.filter(["name", "target", "unit", "kind", "from", "what", "licence"]))
        return
    out = out or Path(f"{name}.csv")
    written = table(name, out, n=n, seed=seed)
    about = written.attrs
    if as_json:
        print(json.dumps({"out": str(out), "rows": len(written), **about}, ensure_ascii=False))
        return
    print(f"{out}: {len(written)} rows, {about['title']}. {about['citation']}, {about['licence']}.")
    unit = f" --unit {shlex.quote(about['unit'])}" if about["unit"] else ""
    print(f"Next: georama map {shlex.quote(str(out))} --target {about['target']}{unit}")


@data_app.command()
def scene(
    name: Annotated[str | None, typer.Argument(help="A scene; none lists them.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; by default NAME.")] = None,
    debug: Debug = False,
) -> None:
    """Write a real scene of the kit and its labels, to fit and predict with."""
    from georama.verbs.data import scene

    print("\n".join(scene(name, out)))


def _show(table: pd.DataFrame) -> None:
    """Print a table with aligned columns and no more than its own words."""
    cells = [[str(name) for name in table.columns]]
    cells += [[_word(value) for value in row] for row in table.itertuples(index=False)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    for row in cells:
        padded = (f"{value:{width}}" for value, width in zip(row, widths, strict=True))
        print("  ".join(padded).rstrip())


def _word(value: object) -> str:
    whole = isinstance(value, Integral) or not isinstance(value, Real)
    return str(value) if whole else f"{value:.6g}"


@app.command()
def map(
    places: Places,
    target: Annotated[
        str, typer.Option(help="The column to map; several with commas for shares of one whole.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder; by default PLACES-TARGET, or PLACES-TARGET-at-AT.")
    ] = None,
    at: At = None,
    bbox: BBox = None,
    region: Region = None,
    resolution: Resolution = None,
    kind: Annotated[
        str | None,
        typer.Option(help="regression, counts, circular, classification or shares; else guessed."),
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Unit of the target, for the legend.")] = None,
    model: Model = "world",
    weights: Weights = None,
    lon: Lon = None,
    lat: Lat = None,
    crs: Crs = None,
    layer: Layer = None,
    period: Annotated[
        float | None, typer.Option(help="Length of the circle of a circular target, e.g. 365.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Column of your own train/test split, to look for leaks.")
    ] = None,
    level: Level = 0.9,
    check: Annotated[
        Path | None, typer.Option(help="Further places with the truth, to score the map on.")
    ] = None,
    sea: Sea = None,
    layers: With = None,
    keep_layers: Annotated[
        bool, typer.Option("--keep-layers", help="Use layers that gain nothing too.")
    ] = False,
    seed: Seed = 0,
    plan: Plan = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Map a table of places: GeoTIFF with intervals, picture, report and honest scores."""
    box = _box(bbox)
    from georama.verbs.map import OUTPUTS, map

    out = out or Path(f"{places.stem}-{target}" + ("" if at is None else f"-at-{at.stem}"))
    result = map(
        places,
        target,
        out=out,
        at=at,
        bbox=box,
        region=region,
        resolution=resolution,
        kind=kind,
        unit=unit,
        model=model,
        weights=weights,
        lon=lon,
        lat=lat,
        crs=crs,
        layer=layer,
        period=period,
        split=split,
        level=level,
        check=check,
        sea=sea,
        sources=layers or (),
        keep_layers=keep_layers,
        seed=seed,
        plan=plan,
    )
    if as_json:
        print(json.dumps(result, indent=1, ensure_ascii=False, default=str))
    elif plan:
        _note(result.pop("notes"))
        _plan(result)
    else:
        _note(result["notes"])
        print(f"{result['target']} is taken as {result['kind']}: {result['kind_reason']}")
        _verdict(result)
        print(f"\n{out}: {', '.join(name for name in OUTPUTS if (out / name).exists())}")


@app.command()
def fit(
    recipe: Annotated[str, typer.Argument(help="Of images, see georama recipes.")],
    data: Annotated[
        list[Path],
        typer.Argument(
            help="Scenes (a raster or a folder of bands each), a folder with images/ and labels/, "
            "a folder with a folder of chips a class, or a CSV of chips."
        ),
    ],
    labels: Annotated[
        list[Path] | None,
        typer.Option(help="Raster of classes or amounts, one a scene; or shapes, for all."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column of shapes or of the CSV.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; by default RECIPE-model.")] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="classification, segmentation, regression or pixel_regression; else guessed."
        ),
    ] = None,
    sensor: Sensor = None,
    bands: Bands = None,
    wavelengths: Wavelengths = None,
    crs: Crs = None,
    ignore: Annotated[
        list[int] | None, typer.Option(help="A code that stands for no label; may be repeated.")
    ] = None,
    chip: Annotated[int, typer.Option(help="Rows and columns that scenes are cut into.")] = 64,
    chips: Annotated[int | None, typer.Option(help="Chips at most.")] = None,
    settings: Settings = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of the recipe pretrained, to start from.")
    ] = None,
    controls: Annotated[
        bool, typer.Option("--controls/--no-controls", help="Score forests beside the recipe.")
    ] = True,
    seed: Seed = 0,
    plan: Plan = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train a recipe of images on scenes with labels; scores come from blocks apart."""
    waves = _numbers(wavelengths, "--wavelengths")
    given = dict(_setting(text) for text in settings or ())
    from georama.verbs.fit import fit

    result = fit(
        recipe,
        data,
        out=out or Path(f"{recipe}-model"),
        labels=labels or (),
        target=target,
        task=task,  # pyright: ignore[reportArgumentType]  # checked there
        sensor=sensor,
        bands=bands.split(",") if bands else None,
        wavelengths_nm=waves,
        crs=crs,
        ignore=ignore or (),
        chip=chip,
        chips=chips,
        settings=given,
        weights=weights,
        controls=controls,
        seed=seed,
        plan=plan,
    )
    if as_json:
        print(json.dumps(result, indent=1, ensure_ascii=False, default=str))
        return
    _note(result.pop("notes"))
    if plan:
        _pairs(result)
        return
    print(result["sentence"])
    names = list(result["models"][0]["scores"])
    print(f"\n{'on unseen blocks':30}" + "".join(f"{name:>10}" for name in names))
    for row in result["models"]:
        values = "".join(f"{row['scores'][name]['value']:>10.3f}" for name in names)
        print(f"{row['name'][:30]:30}{values}")
    held = ", ".join(f"{float(k):.0%}: {v:.1%}" for k, v in result["coverage"].items())
    print(f"\nsets or intervals hold on unseen blocks  {held}")
    print(f"Report: {Path(result['out']) / 'report.html'}")
    print(f"Next: georama predict {shlex.quote(result['out'])}/model SCENE.tif --out DIR")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="The folder model/ that map or fit left.")],
    scenes: Annotated[
        list[Path] | None,
        typer.Argument(help="For a model of scenes: rasters, or folders of the bands of one."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder for the predictions.")],
    at: At = None,
    bbox: BBox = None,
    region: Region = None,
    resolution: Resolution = None,
    sea: Sea = None,
    layers: With = None,
    level: Level = 0.9,
    sensor: Sensor = None,
    bands: Bands = None,
    wavelengths: Wavelengths = None,
    crs: Crs = None,
    window: Annotated[int | None, typer.Option(help="Rows and columns asked at once.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Pixels that windows share.")] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write a band a class too.")
    ] = False,
    polygons: Annotated[
        bool, typer.Option("--polygons", help="Write patches of one class as polygons too.")
    ] = False,
    plan: Plan = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Use the model of an earlier map at other places, or one of scenes on other scenes."""
    box, waves = _box(bbox), _numbers(wavelengths, "--wavelengths")
    from georama.verbs.predict_scene import is_scene_model, predict_scene
    from georama.wording import listing

    if is_scene_model(model):
        places = {
            "--at": at,
            "--region": region,
            "--bbox": bbox,
            "--resolution": resolution,
            "--sea": sea,
            "--with": layers or None,
        }
        if given := [name for name, value in places.items() if value is not None]:
            raise UsageError(
                f"{model} predicts on scenes, {listing(given)} asks for places",
                remedy="give scenes alone, or a model of georama map",
            )
        found = predict_scene(
            model,
            scenes or (),
            out=out,
            sensor=sensor,
            bands=bands.split(",") if bands else None,
            wavelengths_nm=waves,
            crs=crs,
            window=window,
            overlap=overlap,
            level=level,
            probabilities=probabilities,
            polygons=polygons,
            plan=plan,
        )
        if as_json:
            print(json.dumps(found, indent=1, ensure_ascii=False))
            return
        for name, one in found.items():
            _note(one.pop("notes"))
            print(name)
            _pairs(one)
        return
    if scenes:
        if not model.is_dir():
            raise DataError(
                f"{model} is no folder", remedy="give the folder model/ that georama fit wrote"
            )
        raise UsageError(
            f"{model} predicts at places, not on scenes",
            remedy="give a model of georama fit, or places with --at",
        )
    from georama.verbs.predict import predict

    written = predict(
        model,
        out=out,
        at=at,
        bbox=box,
        region=region,
        resolution=resolution,
        sea=sea,
        sources=layers or (),
        level=level,
    )
    if as_json:
        print(json.dumps(written, indent=1, ensure_ascii=False))
    else:
        _note(written.pop("notes", []))
        _pairs(written)


def _verdict(result: dict[str, Any]) -> None:
    """The verdict of a map and the scores beside those of the simple ways."""
    from georama.sampling.splits import SCHEMES

    print(result["sentence"])
    metric = result["metric"]
    schemes = [scheme for scheme in SCHEMES if scheme in result["models"][0]]
    print(f"\n{metric:24}" + "".join(f"{scheme:>10}" for scheme in schemes))
    for model in result["models"]:
        values = (model.get(scheme, {}).get(metric) for scheme in schemes)
        words = ("-" if value is None else f"{value:.3f}" for value in values)
        mark = "  <- makes the map" if model["name"] == result["chosen"] else ""
        print(f"{model['name']:24}" + "".join(f"{word:>10}" for word in words) + mark)
    _external(result["external"])
    if "layers" in result:
        _ladder(result["layers"])


def _external(rows: list[dict[str, Any]]) -> None:
    """The scores on further places, a line a part."""
    names = [
        name for name in ("n", "r2", "accuracy", "mae", "coverage") if name in (rows or [{}])[0]
    ]
    if not names:
        return
    width = max(24, *(len(row["name"]) + 2 for row in rows))
    print(f"\n{'checked on':{width}}" + "".join(f"{name:>10}" for name in names))
    for row in rows:
        words = (f"{row[name]:,}" if name == "n" else f"{row[name]:.3f}" for name in names)
        print(f"{row['name']:{width}}" + "".join(f"{word:>10}" for word in words))


def _ladder(story: dict[str, Any]) -> None:
    """What each layer brought under blocks, and how the model fares without some of them."""
    print(f"\n{story['metric']} on unseen blocks     score      gain  95 % of it")
    for step in story["ladder"]:
        name = f"+ {step['layer']}" if step["layer"] else "position"
        line = f"{name[:24]:24}{step['score']:>10.3f}"
        if step["layer"]:
            rise = step["gain"]
            said = f"{rise['low']:+.3f} to {rise['high']:+.3f}"
            line += f"{rise['value']:>+10.3f}  {said}  {'kept' if step['kept'] else 'left out'}"
        print(line)
    if "robustness" in story:
        rows = story["robustness"]["rows"]
        names = [" + ".join(row["present"]) or "position" for row in rows]
        width = max(24, *(len(name) for name in names))
        print("\nwhere only some layers are there, this model beside one made for exactly these:")
        print(f"{'present':{width}}this model  made for them")
        for name, row in zip(names, rows, strict=True):
            best = "-" if row["refitted"] is None else f"{row['refitted']:.3f}"
            print(f"{name:{width}}{row['score']:>10.3f}{best:>15}")


def _plan(result: dict[str, Any]) -> None:
    """A plan in units for people."""
    from georama.wording import spell_bytes, spell_seconds

    told = {
        "time": f"about {spell_seconds(result.pop('seconds'))}",
        "memory": f"about {spell_bytes(1e6 * result.pop('memory_mb'))}",
        "files": f"about {spell_bytes(result.pop('bytes_written'))}",
    }
    if (edge := result.pop("resolution_deg")) is not None:
        result["resolution"] = f"{edge:g}°"
    if (box := result.pop("box")) is not None:
        result["box"] = ", ".join(f"{side:g}" for side in box)
    result["cells" if edge is not None else "places asked about"] = f"{result.pop('cells'):,}"
    _pairs({**result, **told})


def _pairs(values: dict[str, Any]) -> None:
    width = max(len(name) for name in values)
    for name, value in values.items():
        told = "; ".join(str(v) for v in value) if isinstance(value, list) else value
        print(f"{name:{width}}  {told}")


@app.command()
def embed(
    places: Places,
    out: Annotated[
        Path | None, typer.Option(help="GeoParquet; by default PLACES-embedded.parquet.")
    ] = None,
    model: Model = "world",
    weights: Weights = None,
    lon: Lon = None,
    lat: Lat = None,
    crs: Crs = None,
    layer: Layer = None,
    layers: With = None,
    debug: Debug = False,
) -> None:
    """Turn places into representations: GeoParquet with one row of numbers a place."""
    from georama.verbs.embed import embed

    out = out or Path(f"{places.stem}-embedded.parquet")
    reading = {"lon": lon, "lat": lat, "crs": crs, "layer": layer}
    table = embed(places, out, model, weights, **reading, sources=layers or ())
    _note(table.attrs.get("notes", []))
    print(f"{out}: {len(table)} places")


@app.command()
def pretrain(
    recipe: Annotated[str, typer.Argument(help="For example urbanfusion, satclip, scene, floro.")],
    scenes: Annotated[
        list[Path] | None,
        typer.Argument(help="For a recipe of images: rasters, or folders of the bands of one."),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder of the model; a killed run goes on there.")],
    layers: With = None,
    at: Annotated[Path | None, typer.Option(help="Learn from the places of this file.")] = None,
    places: Annotated[
        int | None, typer.Option(help="Draw so many where the layers overlap; by default 5000.")
    ] = None,
    bbox: BBox = None,
    minutes: Annotated[
        float | None, typer.Option(help="Of training, beside looking; by default 5.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Of training, in place of minutes.")] = None,
    batch: Annotated[int | None, typer.Option(help="Places a step.")] = None,
    size: Annotated[str | None, typer.Option(help="Of the network: small or base.")] = None,
    sensor: Sensor = None,
    bands: Bands = None,
    wavelengths: Wavelengths = None,
    crs: Crs = None,
    chip: Annotated[int, typer.Option(help="Rows and columns that scenes are cut into.")] = 64,
    chips: Annotated[int | None, typer.Option(help="Chips of a scene at most.")] = None,
    settings: Settings = None,
    seed: Seed = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda…")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, bf16 (half the numbers' bits where they bear it) or fp32.")
    ] = "auto",
    plan: Plan = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train without labels: a place model on layers of your own, or one of images on scenes."""
    box, waves = _box(bbox), _numbers(wavelengths, "--wavelengths")
    from georama import recipes

    if scenes or recipe in recipes.of_scenes():
        _pretrain_scenes(recipe, scenes or [], out, {
            "sensor": sensor, "bands": bands.split(",") if bands else None,
            "wavelengths_nm": waves, "crs": crs, "chip": chip, "chips": chips, "steps": steps,
            "minutes": minutes, "batch": batch,
            "settings": dict(_setting(text) for text in settings or ()), "seed": seed,
            "device": device, "precision": precision, "plan": plan,
        }, as_json)  # fmt: skip
        return
    if precision != "auto":
        raise UsageError("--precision is of recipes that learn from scenes", remedy="leave it out")
    from georama.verbs.pretrain import pretrain

    result = pretrain(
        recipe,
        layers or (),
        out,
        at=at,
        places=places,
        bbox=box,
        steps=steps,
        minutes=minutes,
        batch=batch,
        size=size,
        seed=seed,
        device=device,
        plan=plan,
    )
    if not result:  # one of several processes that is not the first
        return
    if as_json:
        print(json.dumps(result, indent=1, ensure_ascii=False))
        return
    _note(result.pop("notes"))
    if plan:
        _pairs(result)
        return
    _learned(result)
    print(f"\nNext: georama embed places.csv --model {shlex.quote(str(out))}")


def _pretrain_scenes(
    recipe: str, scenes: list[Path], out: Path, options: dict[str, Any], as_json: bool
) -> None:
    from georama.verbs.pretrain_scenes import pretrain_scenes

    result = pretrain_scenes(recipe, scenes, out, **options)
    if not result:  # one of several processes that is not the first
        return
    if as_json:
        print(json.dumps(result, indent=1, ensure_ascii=False))
        return
    _note(result.pop("notes"))
    _pairs(result)
    if not options["plan"]:
        print(
            f"\nNext: georama fit {recipe} SCENES --labels FILE --weights {shlex.quote(str(out))}"
        )


def _learned(result: dict[str, Any]) -> None:
    """What a pretraining cost and how it does on places held out, beside chance."""
    print(
        f"{result['recipe']}: {result['trained_on']:,} places, {result['steps']:,} steps in "
        f"{result['minutes']:g} minutes, {result['places_a_second']:,} places a second"
    )
    print(
        f"held out: {result['held_out']:,} places in blocks of {result['blocks_deg']:g}°, "
        f"{result['apart_km']:g} km from the next place of the training\n"
    )
    print(f"{'':34}{'training':>10}{'held out':>10}{'chance':>10}")
    for name, told in result["held_out_loss"].items():
        last = result["loss"].get(name, float("nan"))
        print(f"{'loss ' + name:34}{last:>10.3f}{told['loss']:>10.3f}{told['chance']:>10.3f}")
    for name, told in result["retrieval"].items():
        label = f"recall@10 {name}"[:33]
        print(f"{label:34}{'':>10}{told['recall@10']:>10.3f}{told['chance@10']:>10.3f}")


@app.command()
def search(
    places: Places,
    like: Annotated[
        str, typer.Option(help="60.17N,24.94E or COLUMN=VALUE or a row number from 0.")
    ],
    k: Annotated[int, typer.Option("-k", help="How many to give.")] = 10,
    beyond_km: Annotated[float, typer.Option(help="Leave out what is nearer than this.")] = 0.0,
    out: Annotated[Path | None, typer.Option(help="GeoParquet for the result.")] = None,
    map_out: Annotated[
        Path | None, typer.Option("--map", help="GeoTIFF of the similarity of the whole world.")
    ] = None,
    resolution: Annotated[float, typer.Option(help="Of that map, in degrees.")] = 0.5,
    model: Model = "world",
    weights: Weights = None,
    lon: Lon = None,
    lat: Lat = None,
    crs: Crs = None,
    layer: Layer = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Find the places that are most like one place."""
    from georama.verbs.search import search

    found = search(
        places,
        int(like) if like.isdecimal() else like,
        k,
        model,
        weights,
        beyond_km=beyond_km,
        out=out,
        map_out=map_out,
        resolution=resolution,
        lon=lon,
        lat=lat,
        crs=crs,
        layer=layer,
    )
    _note(found.attrs.get("notes", []))
    table = found.drop(columns=["geometry", "embedding"], errors="ignore")
    if as_json:
        print(table.to_json(orient="records", indent=2, force_ascii=False))
    else:
        _show(table.round({"similarity": 3, "distance_km": 0}))
        made = [file for file in (out, map_out, map_out and map_out.with_suffix(".png")) if file]
        if made:
            print(f"\nWritten: {', '.join(str(file) for file in made)}")


@judge_app.command("models")
def judge_models(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... PROTOCOL",
            help="Models: world, sh10, presto=FILE, floro=FOLDER, hf:FOLDER, timm:NAME=FILE, "
            "vectors.parquet, kriging, georama…; last, location or frozen.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder; by default PROTOCOL-judged.")] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Of the protocol, FILE:COLUMN of your own, or all; may be repeated."),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="blocks, random…; may be repeated. Both of these without it."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Draws of the split.")] = 1,
    fraction: Annotated[
        list[float] | None, typer.Option(help="Of the training samples; may be repeated.")
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="ridge, range, logistic or mlp; else the split's own.")
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness/--no-robustness", help="Hide sensors one by one.")
    ] = True,
    cache: Annotated[Path | None, typer.Option(help="Folder where vectors are kept.")] = None,
    kept: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Keep vectors for the next run.")
    ] = True,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    batch: Annotated[int, typer.Option(help="Images that a network sees at once.")] = 64,
    sensor: Sensor = None,
    bands: Bands = None,
    plan: Plan = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Judge models by a protocol: frozen vectors, small heads, places apart, intervals.

    The word models may be left out: georama judge world sh10 location
    """
    if len(names) < 2:
        raise UsageError(
            f"models and a protocol are wanted, got {names[0]} alone",
            remedy="write georama judge world sh10 location",
        )
    from georama.verbs.judge_models import OUTPUTS, judge, main_scores

    *models, protocol = names
    out = out or Path(f"{protocol}-judged")
    results = judge(
        models,
        protocol,
        out=out,
        tasks=task or (),
        splits=split or (),
        seeds=seeds,
        fractions=fraction or (1.0,),
        head=head,
        robustness=robustness,
        cache=cache,
        kept=kept,
        device=device,
        batch=batch,
        sensor=sensor,
        bands=bands.split(",") if bands else None,
        plan=plan,
    )
    if plan:
        _note([*results.attrs["notes"], *(row["why"] for row in results.attrs["skipped"])])
        told = results.attrs["plan"]
        print(json.dumps(told, indent=1, ensure_ascii=False)) if as_json else _pairs(told)
        return
    if as_json:
        print(results.to_json(orient="records", indent=1, force_ascii=False))
        return
    _show(main_scores(results).round({"value": 3, "low": 3, "high": 3, "seconds": 1}))
    print(f"\n{results.attrs['sentence']}")
    for curve in results.attrs["robustness"]:
        if curve["worst_loss"] is not None:
            print(
                f"{curve['recipe']} on {curve['task']}: without some sensors at worst "
                f"{curve['worst_loss']:.3f} {curve['metric']} below a refitted head"
            )
    print(f"\n{out}: {', '.join(OUTPUTS)}")


@judge_app.command("leaderboard")
def judge_leaderboard(
    folder: Annotated[
        Path, typer.Argument(help="Raw results of GEO-Bench-2: a folder a submission, or a CSV.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder; by default FOLDER-judged.")] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="A capability, like Core; may be repeated.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Of the bootstraps that doubt the ranks.")] = 1000,
    seed: Seed = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Recompute a leaderboard from its raw runs, and say which of its ranks are noise."""
    from georama.verbs.judge_leaderboard import KEYS, OUTPUTS, leaderboard, spoken

    out = out or Path(f"{folder.resolve().stem}-judged")
    table = leaderboard(folder, out=out, groups=group or (), draws=draws, seed=seed)
    _note(table.attrs["notes"])
    if as_json:
        print(table.to_json(orient="records", indent=1, force_ascii=False))
        return
    for (mode, name), part in table.groupby(KEYS, sort=False):
        print(f"{name}, {mode}: {table.attrs['sentences'][f'{name}, {mode}']}.")
        _show(spoken(part))
        print()
    print(f"{table.attrs['sentence']}\n\n{out}: {', '.join(OUTPUTS)}")


@judge_app.command("audit")
def judge_audit(
    table: Places,
    split: Annotated[str, typer.Option(help="Column that tells test from training.")],
    target: Annotated[
        str | None, typer.Option(help="Column that a control learns; nothing is scored without.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Of the target: classification or regression.")
    ] = None,
    place: Annotated[str | None, typer.Option(help="Column that names the place.")] = None,
    elevation: Annotated[str | None, typer.Option(help="Column of metres.")] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--input", help="Column that a model reads; may be repeated. Else all."),
    ] = None,
    footprint: Annotated[
        float | None, typer.Option(help="Side in metres of the square that a row stands for.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; by default TABLE-audited.")] = None,
    lon: Lon = None,
    lat: Lat = None,
    crs: Crs = None,
    layer: Layer = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Audit the split of a table of places: copies, neighbours, dates on both sides, shortcuts."""
    from georama.verbs.judge_audit import OUTPUTS, as_dict, audit_table

    out = out or Path(f"{table.stem}-audited")
    found, notes = audit_table(
        table,
        split,
        out=out,
        target=target,
        kind=kind,
        place=place,
        elevation=elevation,
        inputs=columns or (),
        footprint_m=footprint,
        lon=lon,
        lat=lat,
        crs=crs,
        layer=layer,
        seed=seed,
    )
    _note(notes)
    if as_json:
        from georama.products.provenance import as_json as told

        print(told(as_dict(found), indent=1))
        return
    print(f"{found.sentence}\n")
    for one in found.findings:
        print(f"{'LEAK' if one.leak else 'ok  '}  {one.name}: {one.sentence}")
    print(f"\n{out}: {', '.join(OUTPUTS)}")


def _note(notes: list[str]) -> None:
    """Tell on standard error what was dropped, guessed or fallen back to."""
    from georama.progress import told

    for note in notes:
        if note not in told:
            print(f"note: {note}", file=sys.stderr)


def _box(text: str | None) -> tuple[float, float, float, float] | None:
    """Four degrees out of WEST,SOUTH,EAST,NORTH."""
    if text is None:
        return None
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--bbox wants WEST,SOUTH,EAST,NORTH in degrees, got “{text}”",
            remedy="write it like --bbox 5,45,15,55",
        ) from None
    return west, south, east, north


def _numbers(text: str | None, option: str) -> list[float] | None:
    """Numbers with commas between."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"{option} wants numbers with commas between, got {text!r}",
            remedy=f"write it like {option} 490,560,665,842",
        ) from None


def _setting(text: str) -> tuple[str, Any]:
    """Name and value out of NAME=VALUE; a value that is JSON is read as such."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--set wants NAME=VALUE, got {text!r}", remedy="write --set steps=500")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors are told on standard error.

    Codes: 0 done, 1 a fault of georama or a failed check, 2 usage, 3 bad data, 4 network,
    5 resources, 130 interrupted, 141 the reader of the output went away.
    """
    try:
        code = app(args=arguments, prog_name="georama", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes standard output once more at exit and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except SystemExit:  # typer met the closed pipe first, has muted both streams, and leaves
        return BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        return _tell(error)
    if code == INTERRUPTED:
        print("interrupted; no half-written file is left", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _tell(error: Exception) -> int:
    """Print what went wrong in at most six lines and return the exit code for it."""
    match error:
        case GeoramaError():
            text, code = str(error), error.exit_code
        case typer.TyperException():
            context = getattr(error, "ctx", None)  # usage errors know the command they came from
            command = context.command_path if context else "georama"
            said = error.format_message().rstrip(".").partition(", unable to parse")[0]
            said = said.replace("Input should be a", "wanted is a")
            text, code = f"{said}; see {command} --help", error.exit_code
        case MemoryError():
            text = "this needs more memory than there is; ask for a smaller --bbox or a coarser"
            text, code = f"{text} --resolution, or see --plan", 5
        case OSError() if error.errno in LACKING:
            text = f"{error.strerror}: {error.filename or 'no file named'}"
            text, code = f"{text}; free space, or give an --out that can be written", 5
        case _:
            text = f"{type(error).__name__}: {error}\nThis is a fault of georama, not of yours."
            text += "\nRerun with --debug and report what it prints, with the output of"
            text, code = f"{text} `georama doctor --json`.", 1
    lines = f"georama: {text}".splitlines()
    print("\n".join(lines[:MOST_LINES]), file=sys.stderr)
    return code
