"""Trees or a small network with messages between pairs that share a node? On the problems that are kept for ranking.

    python benchmarks/learned/network.py FOLDER [--families cyclic knock-outs]

Both learn from the same tables, all pairs of every fifth problem, and rank families that they have not seen. The
network takes the features of a pair to 48 numbers, adds their means and maxima over the pairs with the same source and
with the same target, and makes one number of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gsnn.discovery.learned.learn import OTHERS, learn
from learned.study import Table, Trees, left_out, read, summary, thinned

WIDTH, EPOCHS = 48, 12


class Messages(nn.Module):
    """Pairs that hear of the pairs with the same source and with the same target."""

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.mean, self.spread = mean, spread
        self.first = nn.Sequential(nn.Linear(len(mean), WIDTH), nn.ReLU())
        self.last = nn.Sequential(nn.Linear(5 * WIDTH, WIDTH), nn.ReLU(), nn.Dropout(0.2), nn.Linear(WIDTH, 1))

    def forward(self, values: Tensor, source: Tensor, target: Tensor, n: int) -> Tensor:
        """(K,) logarithms of odds."""
        own = self.first(torch.nan_to_num((values - self.mean) / self.spread).clamp(-5, 5))
        heard = [own]
        for end in (source, target):
            where = end[:, None].expand_as(own)
            for how in ("mean", "amax"):
                empty = own.new_zeros(n, WIDTH)
                heard.append(empty.scatter_reduce(0, where, own, how, include_self=False)[end])
        return self.last(torch.cat(heard, dim=1))[:, 0]

    def log_odds(self, names: Sequence[str], values: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
        """(K,) logarithms of odds, for the study."""
        self.eval()
        source, target = (torch.from_numpy(each) for each in np.divmod(rows, n))
        with torch.no_grad():
            return self(torch.from_numpy(values), source, target, n).double().numpy()


def taught(tables: list[Table]) -> Messages:
    """A network that has learnt from problems with all of their pairs."""
    torch.manual_seed(0)
    few = torch.from_numpy(np.concatenate([table.pairs.values[::20].astype(np.float32) for table in tables]))
    mean = torch.nanmean(few, 0)
    spread = torch.nanmean((few - mean) ** 2, 0).sqrt().clamp(min=1e-6)
    net = Messages(torch.nan_to_num(mean), torch.nan_to_num(spread, nan=1.0))
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=EPOCHS * len(tables))
    for _ in range(EPOCHS):
        for k in torch.randperm(len(tables)).tolist():
            pairs, n = tables[k].pairs, tables[k].n
            source, target = (torch.from_numpy(each) for each in np.divmod(pairs.rows, n))
            label = torch.from_numpy(pairs.label).float()
            net.train()
            odds = net(torch.from_numpy(pairs.values.astype(np.float32)), source, target, n)
            losses = nn.functional.binary_cross_entropy_with_logits(odds, label, reduction="none")
            weight = torch.where(label > 0, 1 / label.sum(), OTHERS / (1 - label).sum())
            optimiser.zero_grad()
            ((losses * weight).sum() * label.sum().sqrt() / 10).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return net


def main() -> None:
    """Leave out some families."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--families", nargs="*", default=["published", "cyclic", "knock-outs"])
    given = parser.parse_args()
    paths = [path for path in sorted(given.folder.glob("*.npz")) if read(path).facts["ranked"]]
    made = {
        "learned": lambda tables: Trees(learn([thinned(table).pairs for table in tables], num_threads=1)),
        "network": taught,
    }
    print(summary(left_out(paths, made, given.families)))


if __name__ == "__main__":
    main()
