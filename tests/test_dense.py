"""Heads tell every pixel of a batch, whatever its sides, and leave a frozen encoder alone."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from georama.bands import SENSORS
from georama.chips import Batch, Chips
from georama.encoders.convolutions import ChannelNorm, mean_over_known
from georama.encoders.pyramid import Pyramid
from georama.encoders.unet import UNetEncoder
from georama.errors import DataError, UsageError
from georama.heads.dense import PixelHead, UPerNet, with_head
from georama.heads.tasks import UNKNOWN, Task
from georama.learning import adamw
from georama.recipes.unet import UNet

COVER = Task(kind="segmentation", target="cover", classes=("water", "trees", "crops"))
HEIGHT = Task(kind="pixel_regression", target="height", unit="m")
USE = Task(kind="classification", target="use", classes=("a", "b"))


class Plain(nn.Module):
    """Four maps of one stride, as a vision transformer gives them."""

    def __init__(self, bands: int, stride: int = 4, depth: int = 4) -> None:
        super().__init__()
        self.widths, self.strides = (16,) * depth, (stride,) * depth
        self.first = nn.Conv2d(bands, 16, stride, stride)
        self.rest = nn.ModuleList(nn.Conv2d(16, 16, 1) for _ in range(depth))
        self.drop = nn.Dropout(0.5)

    def forward(self, batch: Batch) -> list[torch.Tensor]:
        x = self.first(batch.values.mean(1))
        return [self.drop(layer(x)) for layer in self.rest]

    def pooled(self, batch: Batch) -> torch.Tensor:
        return self(batch)[-1].mean((2, 3))


def some(n: int = 2, h: int = 17, w: int = 22, t: int = 1) -> Chips:
    bands = SENSORS["rgbn"].bands
    values = np.random.default_rng(1).uniform(0, 1, (n, t, len(bands), h, w)).astype(np.float32)
    values[0, :, 1] = np.nan
    values[:, :, :, :3, :3] = np.nan
    return Chips(bands, values, 1.0, np.zeros((n, 2)), np.full((n, t), np.nan))


def encoder(kind: str) -> nn.Module:
    bands = SENSORS["rgbn"].bands
    if kind == "unet":
        return UNetEncoder(bands, widths=(8, 16, 16))
    return Plain(len(bands), {"patches": 4, "pixels": 1, "one": 4}[kind], 1 if kind == "one" else 4)


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        *product(["unet", "patches", "pixels", "one"], ["upernet", "linear", "unet"]),
        # It reads the last map alone.
        ("unet", "pixels"),
        ("one", "pixels"),
    ],
)
def test_every_pixel_is_told_and_every_weight_learns(kind: str, head: str) -> None:
    torch.manual_seed(0)
    network = with_head(
        encoder(kind),
        COVER,
        head,  # pyright: ignore[reportArgumentType]
        bands=4,
        width=16,
    )
    batch = some().batch()
    told = network(batch)
    assert told.shape == (2, 3, 17, 22)
    COVER.loss(told, torch.randint(0, 3, (2, 17, 22))).backward()
    unused = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


def test_pixels_know_their_square_over_what_is_known_of_it() -> None:
    head = PixelHead(1, 2, 1).eval()
    seen: list[torch.Tensor] = []
    head.scale.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    band = SENSORS["rgbn"].bands[:1]
    values = (np.arange(36).reshape(1, 1, 1, 6, 6) / 360).astype(np.float32)
    values[0, 0, 0, 2, 2] = np.nan
    batch = Chips(band, values, 1.0, np.zeros((1, 2)), np.zeros((1, 1))).batch()
    head([torch.zeros(1, 2, 6, 6)], batch)
    read = seen[0][0].numpy()
    own = (values[0, 0, 0] - band[0].mean) / band[0].spread
    square = own[:5, :5]
    assert read[1, 2, 2] == pytest.approx(np.nanmean(square), abs=1e-5)
    assert read[2, 2, 2] == pytest.approx(np.nanstd(square), abs=1e-4)
    assert read[1, 5, 5] == pytest.approx(own[3:, 3:].mean(), abs=1e-5)


def test_the_head_of_pixels_keeps_the_one_map_that_it_reads() -> None:
    torch.manual_seed(0)
    network = with_head(encoder("patches"), COVER, "pixels", bands=4, frozen=True).eval()
    batch = some().batch()
    said = network.look(batch)
    assert len(said) == 1
    told = network.answer(network.encoder(batch.padded(4)), batch)
    torch.testing.assert_close(network.answer(said, batch), told)


def test_chips_can_be_learned_from_one_at_a_time() -> None:
    torch.manual_seed(0)
    network = with_head(encoder("patches"), USE, "pixels", bands=4).train()
    told = network(some(1, 8, 8).batch())
    assert torch.isfinite(told).all()
    USE.loss(told, torch.tensor([1])).backward()


def test_the_head_of_pixels_wants_to_know_how_many_bands() -> None:
    with pytest.raises(UsageError, match="take one of upernet, linear and unet"):
        with_head(encoder("unet"), COVER, "pixels")


def test_a_frozen_encoder_is_asked_once_for_each_place(monkeypatch: pytest.MonkeyPatch) -> None:
    from georama.heads import fitting

    chips = some(12, 8, 8)
    truth = (np.nan_to_num(chips.values[:, 0, 0]) > 0.5).astype(np.int64)
    course: dict[str, Any] = {
        "steps": 6, "batch": 4, "rate": 1e-3, "decay": 0.05, "seed": 0
    }  # fmt: skip
    fitted = []
    for most in (fitting.LOOKS_BYTES, 0):
        torch.manual_seed(0)
        network = with_head(encoder("patches"), COVER, "pixels", bands=4, frozen=True)
        places: list[int] = []
        network.encoder.register_forward_hook(
            lambda _, given, __, to=places: to.append(len(given[0]))
        )
        monkeypatch.setattr(fitting, "LOOKS_BYTES", most)
        fitting.fit_task(network, COVER, chips, truth, **course)
        fitted.append(network.state_dict())
        # One more for how much memory it takes.
        assert sum(places) == (1 + 12 if most else 1 + 6 * 4)
    for key, value in fitted[0].items():
        torch.testing.assert_close(value, fitted[1][key], rtol=1e-5, atol=1e-6)


def test_one_place_and_one_pixel_are_enough() -> None:
    network = with_head(encoder("unet"), HEIGHT, "upernet", width=16)
    assert network(some(1, 1, 1, 3).batch()).shape == (1, 1, 1, 1)


@pytest.mark.parametrize("head", ["linear", "mlp", "pixels"])
def test_whole_chips_are_told_from_the_pooled_vector(head: str) -> None:
    network = with_head(encoder("unet"), USE, head, bands=4)  # pyright: ignore[reportArgumentType]
    assert network(some().batch()).shape == (2, 2)


def test_a_head_for_pixels_is_refused_for_chips() -> None:
    with pytest.raises(UsageError, match="linear, mlp and pixels, got upernet"):
        with_head(encoder("unet"), USE, "upernet")


def test_a_frozen_encoder_stays_as_it_is_in_training() -> None:
    torch.manual_seed(0)
    network = with_head(encoder("patches"), COVER, frozen=True, width=16).train()
    assert not network.encoder.training
    assert network.head.training
    before = {k: v.clone() for k, v in network.encoder.state_dict().items()}
    batch = some().batch()
    optimiser = adamw(network, 1e-2, 0.05)
    COVER.loss(network(batch), torch.ones(2, 17, 22)).backward()
    optimiser.step()
    for key, value in network.encoder.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_what_is_padded_is_unknown() -> None:
    batch = some().batch().padded(8)
    assert batch.values.shape[-2:] == (24, 24)
    assert not batch.known[..., 17:, :].any()
    assert not batch.known[..., 22:].any()
    whole = some(2, 16, 8).batch()
    assert whole.padded(8) is whole


def test_unknown_pixels_do_not_reach_the_network() -> None:
    torch.manual_seed(0)
    network = with_head(encoder("unet"), COVER, "unet").eval()
    chips = some()
    batch = chips.batch()
    spoiled = Batch(
        batch.bands, torch.where(batch.known, batch.values, 7.0), batch.known, 1.0, batch.lonlat,
        batch.days,
    )  # fmt: skip
    torch.testing.assert_close(network(batch), network(spoiled))


def test_a_date_without_anything_has_no_part() -> None:
    torch.manual_seed(0)
    network = with_head(encoder("unet"), COVER, "unet").eval()
    one = some()
    values = np.concatenate([one.values, np.full_like(one.values, np.nan)], axis=1)
    two = Chips(one.bands, values, 1.0, one.lonlat, np.full((2, 2), np.nan))
    torch.testing.assert_close(network(one.batch()), network(two.batch()))


def test_pyramid_takes_four_maps_at_even_distances() -> None:
    assert Pyramid((8,) * 12, (16,) * 12).chosen == (2, 5, 8, 11)
    assert Pyramid((8,) * 4, (16,) * 4).chosen == (0, 1, 2, 3)
    assert Pyramid((8,), (16,)).chosen == (0, 0, 0, 0)
    pyramid = Pyramid((8,) * 4, (16,) * 4)
    assert pyramid.strides == (4, 8, 16, 32)
    shapes = [tuple(x.shape[-2:]) for x in pyramid([torch.zeros(1, 8, 5, 4)] * 4)]
    assert shapes == [(20, 16), (10, 8), (5, 4), (3, 2)]


def test_pooled_maps_of_one_pixel_keep_something_under_the_norm() -> None:
    torch.manual_seed(0)
    head = UPerNet((32, 32), 2, width=32).eval()
    pooled = head.psp_modules[0](torch.randn(2, 32, 4, 4))
    assert float(pooled.detach().std()) > 0.1


def test_channel_norm_is_layer_norm_of_each_pixel() -> None:
    x = torch.randn(2, 8, 3, 4)
    ours = ChannelNorm(8)(x)
    theirs = nn.LayerNorm(8, eps=1e-6)(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours, theirs)


def test_a_mean_over_nothing_is_zero() -> None:
    x, known = torch.ones(2, 3), torch.tensor([[True, False, True], [False, False, False]])
    torch.testing.assert_close(mean_over_known(x, known, 1), torch.tensor([1.0, 0.0]))


def test_a_unet_learns_what_a_band_shows_and_survives_its_folder(tmp_path) -> None:
    chips = some(6, 16, 16)
    truth = (np.nan_to_num(chips.values[:, 0, 2]) > 0.5).astype(np.int64)
    truth[:, :3, :3] = UNKNOWN
    task = Task(kind="segmentation", target="bright", classes=("no", "yes"))
    model = UNet(widths=(8, 16)).fit(chips, truth, task, steps=60, batch=4, rate=1e-2)
    told = model.predict(chips)
    assert told.shape == (6, 2, 16, 16)
    known = truth != UNKNOWN
    assert (told.argmax(1) == truth)[known].mean() > 0.9
    again = UNet.load(model.save(tmp_path / "unet"))
    np.testing.assert_array_equal(again.predict(chips), told)
    assert again(chips).shape == (6, 16)
    with pytest.raises(UsageError, match="not trained"):
        UNet()(chips)
    with pytest.raises(DataError, match="6 places and 5 truths"):
        UNet().fit(chips, truth[:5], task)


@pytest.mark.parametrize("task", [COVER, USE])
def test_a_band_that_is_missing_reads_as_what_was_usual(task: Task) -> None:
    torch.manual_seed(0)
    network = with_head(encoder("patches"), task, "pixels", bands=4)
    dark = SENSORS["rgbn"].bands
    usual = np.random.default_rng(0).uniform(0.4, 0.6, (8, 1, 4, 16, 16)).astype(np.float32)
    chips = Chips(dark, usual, 1.0, np.zeros((8, 2)), np.zeros((8, 1)))
    for _ in range(80):
        network.train()(chips.batch())
    network.eval()
    # The encoder is no part of this: it sees the same.
    said = network.look(chips.batch())
    whole = network.answer(said, chips.batch())
    lacking = network.answer(said, chips.without(dark[1:2]).batch())
    zero = usual.copy()
    zero[:, :, 1] = dark[1].mean
    read_zero = network.answer(said, Chips(dark, zero, 1.0, chips.lonlat, chips.days).batch())
    assert (lacking - whole).abs().mean() < 0.5 * (read_zero - whole).abs().mean()
