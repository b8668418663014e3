import numpy as np
import pytest
import torch

from georama.encoders.patches import (
    Block,
    ViT,
    cut,
    grid_positions,
    join,
    resize_positions,
    sincos_positions,
    take,
)
from georama.encoders.pictures import check_images, scale_of, scaled
from georama.errors import DataError


def vit(**more):
    torch.manual_seed(0)
    return ViT(image_px=16, patch_px=4, width=24, depth=2, heads=2, **more).eval()


def test_cut_and_join_are_inverse_and_keep_order():
    images = torch.arange(2 * 3 * 8 * 12).reshape(2, 3, 8, 12).float()
    patches = cut(images, 4)
    assert patches.shape == (2, 6, 48)
    assert patches[0, 1].reshape(4, 4, 3).permute(2, 0, 1).equal(images[0, :, :4, 4:8])
    assert join(patches, 2, 4).equal(images)


def test_fixed_positions_count_columns_first():
    table = grid_positions(3, 5, 16)
    assert table.shape == (15, 16)
    assert table[7].equal(sincos_positions(torch.tensor([2, 1]), 16))
    assert table[7, :8].equal(table[12, :8])  # the same column
    assert table[5, 8:].equal(table[9, 8:])  # the same row
    assert float(table[2, 0]) == pytest.approx(np.sin(2.0))


def test_shown_patches_alone_count():
    net, images = vit(), torch.randn(2, 3, 16, 16)
    keep = torch.tensor([[0, 5, 9], [1, 2, 15]])
    with torch.no_grad():
        shown = net(images, keep)
        other = join(torch.randn(2, 16, 48).scatter(
            1, keep[..., None].expand(-1, -1, 48), take(cut(images, 4), keep)), 4, 4)  # fmt: skip
        assert torch.allclose(net(other, keep), shown, atol=1e-6)
        assert torch.allclose(net(images, torch.arange(16).expand(2, 16)), net(images), atol=1e-6)
    assert shown.shape == (2, 4, 24)
    assert vit(with_class=False)(images, keep).shape == (2, 3, 24)


def test_tokens_that_are_not_seen_change_nothing():
    block, x = Block(24, 2).eval(), torch.randn(1, 6, 24)
    seen = torch.tensor([[True, True, False, True, False, True]])
    with torch.no_grad():
        changed = torch.where(seen[..., None], x, torch.randn(1, 6, 24))
        assert torch.allclose(block(x, seen)[seen], block(changed, seen)[seen], atol=1e-6)


def test_layers_are_the_tokens_on_the_way():
    net, images = vit(), torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        first, last = net.layers(images, (0, 1))
        assert net.norm(last).equal(net(images))
        assert net.blocks[1](first).equal(last)


def test_other_shapes_keep_positions_in_place():
    fixed, images = vit(positions="fixed"), torch.randn(1, 3, 8, 24)
    assert fixed(images).shape == (1, 13, 24)
    assert fixed.positions(4, 4).equal(fixed.pos_embed[:, 1:])
    smooth = torch.linspace(0, 1, 4).repeat(4, 1).reshape(1, 16, 1)
    wide = resize_positions(smooth, 4, 8).reshape(4, 8)
    assert (wide.diff(dim=1) > -0.05).all()
    assert float(wide.mean()) == pytest.approx(0.5, abs=1e-3)
    assert not [p for p in fixed.parameters() if not p.requires_grad and p is not fixed.pos_embed]


def test_images_that_are_absent_are_told_from_torn_ones():
    images = np.random.default_rng(0).normal(5, 2, (3, 2, 8, 8))
    images[1] = np.nan
    pixels, there = check_images(images, 2, 4)
    assert there.tolist() == [True, False, True]
    values = scaled(pixels, there, *scale_of(pixels[there]))
    assert not values[1].any()
    assert values[there].mean() == pytest.approx(0, abs=1e-5)
    assert values[there].std() == pytest.approx(1, abs=1e-4)
    images[2, 0, 0, 0] = np.inf
    with pytest.raises(DataError, match="image 2 has pixels without a value"):
        check_images(images, 2, 4)
    with pytest.raises(DataError, match=r"\(n, 3, h, w\).* got \(3, 2, 8, 8\)"):
        check_images(images, 3, 4)
