"""Dropout by a hash: its share, its independence, and that the same key gives the same mask."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from gsnn.base.splitmix import MIX, STEP
from gsnn.nn import GSNN
from gsnn.nn.dropout import COUNTER, FIRST, SECOND, KeyedDropout, mask, new_key, threshold


def by_numpy(key, block, rows, samples, p):
    """The same hash, one number after the other in Python's integers."""

    def mixed(value):
        value = (value + STEP) % 2**64
        value = (value ^ (value >> 30)) * MIX[0] % 2**64
        value = (value ^ (value >> 27)) * MIX[1] % 2**64
        return value ^ (value >> 31)

    kept = np.empty((rows, samples), bool)
    for r in range(rows):
        row = mixed((key + (block * rows + r) * STEP) % 2**64)
        for s in range(samples):
            x = (s * COUNTER + row) % 2**32
            x ^= x >> 16
            x = (x * FIRST % 2**32) ^ (row >> 32)
            x ^= x >> 15
            x = x * SECOND % 2**32
            kept[r, s] = (x ^ (x >> 15)) >= threshold(p)
    return kept


@pytest.mark.parametrize("key", [0, 1, 2**63 - 2])
@pytest.mark.parametrize("p", [1e-9, 0.1, 0.5, 0.999])
def test_mask_is_the_hash(key, p):
    found = mask(torch.tensor(key), 2, 7, 37, p)
    assert np.array_equal(found.numpy(), by_numpy(key, 2, 7, 37, p))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_masks_are_as_good_as_random(p):
    kept = torch.cat([mask(torch.tensor(17), block, 64, 2000, p) for block in range(4)]).double()
    n = kept.numel()
    assert abs(float(kept.mean()) - (1 - p)) < 4 * (p * (1 - p) / n) ** 0.5
    # Of rows, of neighbours, of blocks and of keys that follow each other.
    rows = torch.corrcoef(kept).fill_diagonal_(0).abs().max()
    assert float(rows) < 5.5 / 2000**0.5
    other = torch.cat([mask(torch.tensor(18), block, 64, 2000, p) for block in range(4)]).double()
    for a, b in ((kept[:, 1:], kept[:, :-1]), (kept[1:], kept[:-1]), (kept, other)):
        pair = torch.stack([a.reshape(-1), b.reshape(-1)])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 4 / n**0.5
    # The counts of a row's blocks of 16 samples, which vectors share, spread as binomial ones.
    counts = kept.view(256, 125, 16).sum(2)
    assert abs(float(counts.var()) / (16 * p * (1 - p)) - 1) < 0.05


def test_torch_governs_the_key():
    torch.manual_seed(4)
    first = [int(new_key()), int(new_key())]
    torch.manual_seed(4)
    assert [int(new_key()), int(new_key())] == first
    assert first[0] != first[1]


def test_layer_by_itself_is_that_of_torch():
    layer, x = KeyedDropout(0.3), torch.ones(5, 4)
    torch.manual_seed(1)
    mine = layer(x)
    torch.manual_seed(1)
    assert torch.equal(mine, torch.nn.functional.dropout(x, 0.3))
    assert torch.equal(layer.eval()(x, torch.tensor(1)), x)
    assert bool((KeyedDropout(1.0)(x, torch.tensor(1)) == 0).all())


@pytest.mark.parametrize("norm", ["none", "layer", "edgebatch"])
def test_a_recomputed_pass_drops_the_same(kit, norm):
    results = []
    model = GSNN(*kit.random_graph(2), 4, 3, norm=norm, dropout=0.4)
    for checkpoint in (False, True):
        twin = copy.deepcopy(model)
        twin.checkpoint = checkpoint
        torch.manual_seed(9)
        out = twin(torch.ones(6, 3))
        out.square().sum().backward()
        results.append([out.detach(), *(p.grad for p in twin.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
