import numpy as np
import pytest
import rasterio
import torch

from georama import recipes
from georama.encoders.harmonics import spherical_harmonics
from georama.encoders.siren import SirenNet
from georama.errors import DataError, UsageError
from georama.objectives.contrastive import symmetric_cross_entropy
from georama.recipes.satclip import SatCLIP
from georama.sources.s2_100k import read_index, read_patch
from samples import SHARED, needs

PATCHES = SHARED / "s2_global_patches"


def pairs(n, seed=0):
    """Places and noisy smooth functions of them, as image features might be."""
    draw = np.random.default_rng(seed)
    lonlat = np.stack(
        [draw.uniform(-180, 180, n), np.degrees(np.arcsin(draw.uniform(-1, 1, n)))], axis=1
    )
    y = spherical_harmonics(lonlat, 3)
    mix = np.random.default_rng(1).normal(size=(9, 12))
    return lonlat, np.sin(3 * y @ mix) + 0.1 * draw.normal(size=(n, 12))


def trained(**settings):
    return SatCLIP(degrees=6, width=32, hidden=64, seed=3).fit(
        *pairs(400), steps=150, batch=128, rate=2e-3, **settings
    )


@pytest.fixture(scope="module")
def model():
    return trained()


def ranks(model, n=100):
    lonlat, seen = pairs(n, seed=9)
    here, there = model(lonlat), model.see(seen)
    here /= np.linalg.norm(here, axis=1, keepdims=True)
    there /= np.linalg.norm(there, axis=1, keepdims=True)
    cosine = there @ here.T
    return (cosine > cosine.diagonal()[:, None]).sum(axis=1)


def test_learns_to_find_the_place_of_an_unseen_image(model):
    assert ranks(model).mean() < 8  # of 100; 49.5 by chance


def test_same_seed_same_result(model):
    lonlat, _ = pairs(20)
    np.testing.assert_array_equal(trained()(lonlat), model(lonlat))


def test_saves_and_loads_to_the_same_output(model, tmp_path):
    again = SatCLIP.load(model.save(tmp_path / "model"))
    lonlat, seen = pairs(20)
    np.testing.assert_array_equal(again(lonlat), model(lonlat))
    np.testing.assert_array_equal(again.see(seen), model.see(seen))
    assert again.card == model.card
    assert again.card.training["pairs"] == 400


def test_closes_the_globe(model):
    rows = model(np.array([[180.0, 12], [-180, 12], [7, 90], [0, 90]]))
    np.testing.assert_array_equal(rows[::2], rows[1::2])


def test_numpy_side_equals_the_torch_network():
    net = SirenNet(36, 5, hidden=16).eval()
    lonlat, _ = pairs(30)
    basis = torch.from_numpy(spherical_harmonics(lonlat, 6, dtype=np.float32))
    tensors = {f"nnet.{k}": v.detach().numpy() for k, v in net.state_dict().items()}
    ours = SatCLIP(degrees=6, width=5, hidden=16, tensors=tensors)(lonlat)
    np.testing.assert_allclose(ours, net(basis).detach().numpy(), atol=1e-5)


def test_network_begins_and_drops_as_in_the_paper():
    torch.manual_seed(0)
    net = SirenNet(100, 256, hidden=512)
    sizes = {name: float(values.detach().abs().max()) for name, values in net.named_parameters()}
    assert sizes["layers.0.weight"] == pytest.approx(1 / 100, rel=1e-3)
    for name in ("layers.1", "last_layer"):
        assert sizes[f"{name}.weight"] == pytest.approx((6 / 512) ** 0.5, rel=1e-3)
        assert sizes[f"{name}.bias"] <= (6 / 512) ** 0.5
    # Dropout before the sine: a hidden number is the sine of zero, whatever the bias is.
    with torch.no_grad():
        net.last_layer.weight.copy_(torch.eye(512)[:256])
        net.last_layer.bias.zero_()
        share = (net.train()(torch.rand(200, 100)) == 0).float().mean()
    assert float(share) == pytest.approx(0.5, abs=0.02)


def test_loss_is_log_n_for_strangers_and_small_for_twins():
    a = torch.eye(8)
    assert float(symmetric_cross_entropy(a, torch.ones(8, 8), 10.0)) == pytest.approx(np.log(8))
    assert float(symmetric_cross_entropy(a, 5 * a, 20.0)) < 1e-6
    b = torch.randn(8, 8)
    both = symmetric_cross_entropy(a, b, 3.0), symmetric_cross_entropy(b, a, 3.0)
    assert float(both[0]) == pytest.approx(float(both[1]))


def patch_folder(folder, count=3, bands=12):
    (folder / "images").mkdir(parents=True)
    lines = ["lat,lon,url,fn"]
    for i in range(count):
        pixels = np.random.default_rng(i).integers(1, 9000, (bands, 64, 64), dtype=np.uint16)
        pixels[0] = 1000
        transform = rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)
        with rasterio.open(
            folder / "images" / f"patch_{i}.tif", "w", driver="GTiff", width=64, height=64,
            count=bands, dtype="uint16", crs="EPSG:32633", transform=transform,
        ) as file:  # fmt: skip
            file.write(pixels)
        lines.append(f"{40 + i},{10 + i},x,patch_{i}.tif")
    (folder / "images" / "patch_9.tif").write_bytes(b"II*\0")
    lines.append("1,2,x,patch_9.tif")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_reads_the_layout_of_s2_100k(tmp_path):
    lonlat, files, notes = read_index(patch_folder(tmp_path / "s2"))
    assert lonlat.tolist() == [[10, 40], [11, 41], [12, 42]]
    assert notes == ["1 patch below 10 kB left out: almost all nodata"]
    patch = read_patch(files[0])
    assert patch.shape == (13, 64, 64)
    assert patch.dtype == np.float32
    assert patch[0].mean() == pytest.approx(0.1)
    assert not patch[10].any()
    assert patch[[9, 11]].all()
    thirteen = patch_folder(tmp_path / "l1c", bands=13)
    assert read_patch(thirteen / "images" / "patch_0.tif")[10].all()


def test_fits_a_folder_with_an_image_network_of_the_caller(tmp_path):
    folder = patch_folder(tmp_path / "s2")
    network = torch.nn.Sequential(
        torch.nn.AvgPool2d(64), torch.nn.Flatten(), torch.nn.Linear(13, 6)
    )
    before = network.state_dict()["2.weight"].clone()
    model = SatCLIP(degrees=3, width=4, hidden=8).fit(folder, image=network, steps=3)
    assert model.tensors["visual.weight"].shape == (4, 6)
    assert torch.equal(network.state_dict()["2.weight"], before)
    plain = SatCLIP(degrees=3, width=4, hidden=8).fit(folder, steps=3)
    assert plain.tensors["visual.weight"].shape == (4, 65)


@needs("s2_global_patches")
def test_fits_real_patches():
    model = SatCLIP(degrees=4, width=16, hidden=32).fit(PATCHES, steps=30, rate=1e-3)
    assert model.card.training["pairs"] == 16
    assert np.isfinite(model(np.array([[0.0, 0.0]]))).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: (f / "index.csv").unlink(), "need index.csv"),
        (lambda f: (f / "index.csv").write_text("a,b\n1,2\n"), "needs the columns lon, lat and fn"),
        (lambda f: (f / "images" / "patch_1.tif").unlink(), "lacks, the first is patch_1.tif"),
    ],
)
def test_broken_folders_are_told(tmp_path, change, told):
    folder = patch_folder(tmp_path / "s2")
    change(folder)
    with pytest.raises(DataError, match=told):
        read_index(folder)


def test_wrong_pairs_are_told():
    lonlat, seen = pairs(10)
    with pytest.raises(UsageError, match="without image features"):
        SatCLIP().fit(lonlat)
    with pytest.raises(DataError, match=r"shape \(10, d\)"):
        SatCLIP().fit(lonlat, seen[:9])
    with pytest.raises(DataError, match="row 2 is not"):
        SatCLIP().fit(lonlat, np.where(np.arange(10)[:, None] == 2, np.nan, seen))
    with pytest.raises(UsageError, match="not trained"):
        SatCLIP()(lonlat)


def test_recipes_are_found_by_file_name():
    assert {"satclip", "geoclip"} <= set(recipes.names())
    assert recipes.find("SatCLIP") is SatCLIP
    assert recipes.load_card("satclip").arxiv == "2311.17179"
    with pytest.raises(UsageError, match=r"no recipe is called “satclap”; there are satclip"):
        recipes.load_card("satclap")
