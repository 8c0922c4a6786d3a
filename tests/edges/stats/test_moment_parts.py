"""Moments in parts, and sums that are put off, against the sums that numpy makes of all samples."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from gsnn.edges.stats import PairMoments, load_moments, moments_state, narrowed_moments, pool_moments, pool_sketches
from gsnn.edges.stats import moment_parts as parts_module
from gsnn.edges.stats import moments as moments_module

P, N = 3, 5
CONDITION = torch.tensor([1, 3])
TARGETS = range(1, 4)
PER_VARIABLE = ("mean_x", "mean_y", "ss_x", "ss_y", "layers_x", "layers_y", "thirds_x", "thirds_y")
SUMS = (*PER_VARIABLE, "cross", "within")


def draw(n, seed=0):
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((2 * P * N, 2 * P * N)) / 3
    values = 2.0 + rng.gamma(1.0, size=(n, 2 * P * N)) @ mix
    return tuple(torch.from_numpy(values.T.reshape(2, P, N, n).copy()))


def make(samples=None, **options):
    options = {"condition_on": CONDITION, "targets": TARGETS, "buffer_rows": 7} | options
    moments = PairMoments(P, N, torch.float64, **options)
    if samples is not None:
        moments.update(*samples)
    return moments


def expected(samples, targets=TARGETS, condition_on=CONDITION):
    x, y = (values.numpy() for values in samples)
    dx, dy = (v - v.mean(-1, keepdims=True) for v in (x, y))
    i, j = np.triu_indices(P)
    return {
        "mean_x": x.mean(-1),
        "mean_y": y.mean(-1),
        "ss_x": (dx**2).sum(-1),
        "ss_y": (dy**2).sum(-1),
        "layers_x": np.einsum("pib,qib->ipq", dx, dx),
        "layers_y": np.einsum("pib,qib->ipq", dy, dy),
        "thirds_x": np.einsum("pib,qib,sib->ipqs", dx, dx, dx)[:, i, j],
        "thirds_y": np.einsum("pib,qib,sib->ipqs", dy, dy, dy)[:, i, j],
        "cross": np.einsum("pib,pjb->pij", dx, dy[:, list(targets)]),
        "within": np.einsum("pub,pib->pui", dx[:, condition_on.numpy()], dx),
    }


def assert_sums(moments, samples, **of):
    assert moments.n == samples[0].shape[-1]
    for name, value in expected(samples, **of).items():
        np.testing.assert_allclose(getattr(moments, name), value, rtol=1e-10, atol=1e-9, err_msg=name)


def cut(samples, *sizes):
    return list(zip(*(values.split(sizes, dim=-1) for values in samples), strict=True))


class Processes:
    """As many threads as processes: ``all_reduce`` waits for all, and leaves the sum with each."""

    def __init__(self, count, sketches=False):
        self.sketches = sketches
        self.barrier = threading.Barrier(count, timeout=20)
        self.held = [None] * count
        self.sizes = []

    def all_reduce(self, rank):
        def all_reduce(tensor):
            assert tensor.is_contiguous()
            self.held[rank] = tensor.clone()
            self.barrier.wait()
            total = sum(self.held[1:], self.held[0].clone())
            self.barrier.wait()
            tensor.copy_(total)
            if rank == 0:
                self.sizes.append(tensor.numel())

        return all_reduce

    def pool(self, moments):
        failed = []

        def work(rank):
            try:
                pool_moments(moments[rank], self.all_reduce(rank))
                if self.sketches:
                    pool_sketches(moments[rank], rank, len(moments), self.all_reduce(rank))
            except Exception as error:
                failed.append(error)
                self.barrier.abort()

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(moments))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]


class TestPooling:
    @pytest.mark.parametrize("sizes", [(12, 1, 20), (0, 33, 0)])
    def test_every_process_ends_with_the_samples_of_all(self, sizes):
        samples = draw(33)
        moments = [make(part) for part in cut(samples, *sizes)]
        Processes(3, sketches=True).pool(moments)
        for each in moments:
            assert torch.equal(each.sketch.samples, torch.stack(samples))
            assert (each.sketch.seen, len(each.sketch.keys)) == (33, 33)

    @pytest.mark.parametrize("sizes", [(12, 1, 20), (0, 33, 0), (30, 0, 3)])
    def test_every_process_ends_with_the_whole(self, sizes):
        samples = draw(33)
        moments = [make(part) for part in cut(samples, *sizes)]
        Processes(3).pool(moments)
        for each in moments:
            assert_sums(each, samples)

    def test_nothing_to_condition_on(self):
        samples = draw(20)
        none = torch.zeros(0, dtype=torch.int64)
        moments = [make(part, condition_on=None, targets=None) for part in cut(samples, 8, 12)]
        Processes(2).pool(moments)
        for each in moments:
            assert_sums(each, samples, targets=range(N), condition_on=none)

    def test_more_samples_may_follow(self):
        samples = draw(30)
        first, second, more = cut(samples, 9, 10, 11)
        moments = [make(first), make(second)]
        Processes(2).pool(moments)
        moments[0].update(*more)
        assert_sums(moments[0], samples)

    def test_no_process_has_seen_a_sample(self):
        moments = [make(), make()]
        Processes(2).pool(moments)
        for each in moments:
            assert each.n == 0
            assert not any(getattr(each, name).any() for name in SUMS)

    def test_many_samples_are_counted_exactly(self):
        """One more than single precision can count."""
        state = moments_state(make(draw(9))) | {"n": torch.tensor([2**24 + 1])}
        moments = make()
        load_moments(moments, state)
        Processes(1).pool([moments])
        assert moments.n == 2**24 + 1

    def test_large_sums_go_in_parts(self, monkeypatch):
        samples = draw(20)
        monkeypatch.setattr(parts_module, "_POOL_BYTES", 8 * 2 * N * len(TARGETS))
        moments = [make(part) for part in cut(samples, 12, 8)]
        processes = Processes(2)
        processes.pool(moments)
        assert_sums(moments[1], samples)
        # The count, the means, and then: two pairs of nodes by targets at a time, or one row where it is larger.
        assert processes.sizes[:2] == [1, 2 * P * N]
        assert max(processes.sizes[2:]) == N * P * P * (P + 1) // 2
        assert processes.sizes.count(N * len(TARGETS)) == P
        monkeypatch.setattr(parts_module, "_POOL_BYTES", 1)
        Processes(2).pool([make(part) for part in cut(samples, 12, 8)])


class TestNarrowing:
    @pytest.mark.parametrize("targets", [range(2, 4), range(1, 3), range(1, 4), range(2, 3)])
    def test_part_is_what_it_would_have_gathered(self, targets):
        samples = draw(25)
        whole = make(samples, condition_on=torch.tensor([0, 1, 3, 4]), memory_bytes=2**30)
        some = torch.tensor([1, 4])
        part = narrowed_moments(whole, targets, some)
        assert_sums(part, samples, targets=targets, condition_on=some)
        assert (part.targets, part.condition_on.tolist()) == (targets, [1, 4])
        assert (part.memory_bytes, part.dtype, part.device) == (2**30, torch.float64, whole.device)
        part.cross.zero_()
        part.within.zero_()
        assert_sums(whole, samples, condition_on=torch.tensor([0, 1, 3, 4]))

    def test_part_of_all_targets(self):
        samples = draw(12)
        part = narrowed_moments(make(samples, targets=None), range(0, 2), CONDITION[:1])
        assert_sums(part, samples, targets=range(0, 2), condition_on=CONDITION[:1])


class TestState:
    def test_round_trip(self):
        samples = draw(23)
        moments = make(samples)
        state = {name: value.clone() for name, value in moments_state(moments).items()}
        assert list(state) == [
            "n", "mean", "ss", "layers", "thirds", "cross", "within", "sample_keys", "samples"
        ]  # fmt: skip
        assert state["n"].tolist() == [23]
        assert state["n"].dtype == torch.int64
        other = make(draw(3, seed=1))
        load_moments(other, state)
        assert_sums(other, samples)
        assert torch.equal(other.sketch.samples, torch.stack(samples))
        more = draw(9, seed=2)
        other.update(*more)
        assert_sums(other, tuple(torch.cat(both, -1) for both in zip(samples, more, strict=True)))
        assert_sums(moments, samples)

    def test_state_of_other_variables(self):
        state = moments_state(make(draw(9)))
        with pytest.raises(ValueError, match=r"^state has cross of shape \(3, 5, 3\), expected \(3, 5, 5\)$"):
            load_moments(make(targets=None), state)
        with pytest.raises(ValueError, match=r"^state has within of shape \(3, 2, 5\), expected \(3, 0, 5\)$"):
            load_moments(make(condition_on=None), state)


def put_off(monkeypatch, samples, **options):
    monkeypatch.setattr(moments_module, "_DEFERRED_BYTES", 0)
    moments = make(samples, **{"buffer_rows": 40} | options)
    assert moments.put_off
    return moments


class TestSumsPutOff:
    @pytest.mark.parametrize("later", [True, False])
    def test_what_is_asked_for(self, later, monkeypatch):
        samples = draw(25)
        moments = put_off(monkeypatch, samples) if later else make(samples)
        assert moments.put_off is later
        want = expected(samples)
        for name in PER_VARIABLE:
            np.testing.assert_allclose(getattr(moments, name), want[name], rtol=1e-10, atol=1e-9, err_msg=name)
        close = {"rtol": 1e-10, "atol": 1e-9}
        np.testing.assert_allclose(moments.cross_rows(slice(1, 4)), want["cross"][:, 1:4], **close)
        for p in range(P):
            np.testing.assert_allclose(moments.cross_pair(p), want["cross"][p], **close)
            np.testing.assert_allclose(moments.within_pair(p), want["within"][p], **close)
        i, j = torch.tensor([4, 0, 0, 2]), torch.tensor([0, 2, 1, 1])
        np.testing.assert_allclose(moments.cross_entries(1, i, j), want["cross"][1, i, j], **close)
        assert moments.put_off is later
        assert_sums(moments, samples)
        assert not moments.put_off

    def test_entries_a_few_at_a_time(self, monkeypatch):
        samples = draw(25)
        moments = put_off(monkeypatch, samples)
        i, j = torch.arange(N).repeat(len(TARGETS)), torch.arange(len(TARGETS)).repeat_interleave(N)
        for room in (1, 8 * 25 * 4):
            monkeypatch.setattr(moments_module, "_CHUNK_BYTES", room)
            np.testing.assert_allclose(moments.cross_entries(2, i, j), expected(samples)["cross"][2, i, j], rtol=1e-10)

    def test_precision_of_what_is_asked_for(self, monkeypatch):
        samples = draw(25)
        monkeypatch.setattr(moments_module, "_DEFERRED_BYTES", 0)
        moments = PairMoments(P, N, torch.float32, buffer_rows=40)
        moments.update(*samples)
        assert moments.cross_rows(slice(0, 2)).dtype == torch.float64
        assert moments.cross_entries(0, torch.tensor([0]), torch.tensor([1])).dtype == torch.float64
        assert moments.cross_pair(0).dtype == torch.float32

    def test_limits(self, monkeypatch):
        samples = draw(5)
        sums = 8 * P * N * (len(TARGETS) + len(CONDITION))
        monkeypatch.setattr(moments_module, "_DEFERRED_BYTES", sums)
        assert not make(samples, buffer_rows=40).put_off
        monkeypatch.setattr(moments_module, "_DEFERRED_BYTES", sums - 1)
        assert make(samples, buffer_rows=40).put_off
        # Not once samples had to go.
        assert not make(samples, buffer_rows=3).put_off

    def test_more_samples_and_other_parts(self, monkeypatch):
        samples = draw(30)
        first, second, third = cut(samples, 10, 12, 8)
        moments = put_off(monkeypatch, first)
        moments.update(*second)
        assert_sums(moments, tuple(torch.cat(both, -1) for both in zip(first, second, strict=True)))
        other = put_off(monkeypatch, third)
        moments.merge(other)
        assert_sums(moments, samples)
        assert_sums(other, third)
        moments.reset()
        assert (moments.n, moments.put_off) == (0, False)
        assert not any(getattr(moments, name).any() for name in SUMS)


class TestMerging:
    def test_order_of_parts_with_targets_and_conditions(self):
        samples = draw(31)
        parts = cut(samples, 11, 1, 19)
        for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
            merged = make(parts[order[0]])
            for k in order[1:]:
                assert merged.merge(make(parts[k])) is merged
            assert_sums(merged, tuple(torch.cat([parts[k][s] for k in order], -1) for s in range(2)))

    def test_without_conditions(self):
        samples = draw(20)
        first, second = cut(samples, 8, 12)
        merged = make(first, condition_on=None).merge(make(second, condition_on=None))
        assert_sums(merged, samples, condition_on=torch.zeros(0, dtype=torch.int64))

    @pytest.mark.parametrize(
        "other",
        [{"condition_on": torch.tensor([1, 2])}, {"condition_on": torch.tensor([1])}, {"targets": range(0, 3)}],
    )
    def test_moments_of_other_variables(self, other):
        moments = make(draw(5))
        with pytest.raises(
            ValueError, match=r"^other holds 3 pairs of 5 nodes, .*; expected 3, 5 and 2, the same nodes$"
        ):
            moments.merge(make(**other))
        with pytest.raises(ValueError, match=r"^other holds 2 pairs of 4 nodes"):
            moments.merge(PairMoments(2, 4, torch.float64))

    def test_updates_with_every_node_conditioned_on(self):
        samples = draw(20)
        assert_sums(make(samples, condition_on=torch.arange(N)), samples, condition_on=torch.arange(N))


class TestMemory:
    """A sample of N = 2**k nodes takes 16 N bytes in the buffer, and the sums 8 N N."""

    @pytest.mark.parametrize(
        ("nodes", "dtype", "budget", "rows"),
        [
            (1, torch.float64, None, 4096),
            (0, torch.float64, None, 4096),
            (2**13, torch.float64, None, 2048),
            (2**13, torch.float32, None, 4096),
            (2**13, torch.float64, 2**40, 2048),
            (2**13, torch.float64, 2**28, 512),
            (2**14, torch.float64, 2**40, 4096),
            (2**16, torch.float64, None, 256),
            (2**16, torch.float32, None, 512),
            (2**18, torch.float64, None, 128),
            (2**16, torch.float64, 2**28, 64),
            (2**16, torch.float64, 2**24, 8),
        ],
    )
    def test_rows_of_the_buffer(self, nodes, dtype, budget, rows):
        moments = PairMoments(1, nodes, dtype, memory_bytes=budget)
        assert moments.buffer_rows == rows
        assert moments.memory_bytes == budget
        assert PairMoments(1, nodes, dtype, memory_bytes=budget, buffer_rows=5).buffer_rows == 5

    def test_two_pairs_take_twice_as_much(self):
        assert PairMoments(2, 2**13, torch.float64).buffer_rows == 1024

    def test_sums_within_half_of_the_budget_are_held(self, monkeypatch):
        made, in_file_of = [], moments_module._zeros_in_file
        monkeypatch.setattr(moments_module, "_zeros_in_file", lambda *shape: made.append(shape) or in_file_of(*shape))
        samples = draw(9)
        sums = 8 * P * N * (len(TARGETS) + len(CONDITION))
        for budget, in_file in ((None, False), (2 * sums, False), (2 * sums - 1, True)):
            moments = make(samples, memory_bytes=budget)
            moments.flush()
            assert made == ([(P, N, len(TARGETS)), (P, len(CONDITION), N)] if in_file else [])
            assert_sums(moments, samples)
            assert moments.cross.dtype == torch.float64

    def test_nothing_in_a_file(self):
        found = moments_module._zeros_in_file(3, 0, 5)
        assert (found.shape, found.dtype) == ((3, 0, 5), torch.float64)
        assert moments_module._zeros_in_file(2, 3).tolist() == [[0.0] * 3] * 2

    def test_disk_that_is_just_large_enough(self, monkeypatch):
        class Disk:
            free = 48

        monkeypatch.setattr(moments_module.shutil, "disk_usage", lambda _: Disk)
        assert moments_module._zeros_in_file(2, 3).shape == (2, 3)
        Disk.free = 47
        with pytest.raises(RuntimeError, match=r"^sums of 48 bytes do not fit .*, nor into the 47 "):
            moments_module._zeros_in_file(2, 3)


def test_products_are_exact_whatever_training_has_chosen():
    before = torch.get_float32_matmul_precision()
    try:
        for chosen in ("medium", "high", "highest"):
            torch.set_float32_matmul_precision(chosen)
            with moments_module.full_precision():
                assert torch.get_float32_matmul_precision() == "highest"
            assert torch.get_float32_matmul_precision() == chosen
            with pytest.raises(ZeroDivisionError), moments_module.full_precision():
                raise ZeroDivisionError
            assert torch.get_float32_matmul_precision() == chosen
    finally:
        torch.set_float32_matmul_precision(before)


def test_shapes_of_updates():
    moments = make()
    x = torch.zeros(P, N, 4)
    for wrong in ((x, x[..., :3]), (x[:2], x[:2]), (x[:, :4], x[:, :4]), (x, x[:, :4])):
        with pytest.raises(ValueError, match=r"^x and y must both have shape \(P, N, B\) = \(3, 5, B\), got \("):
            moments.update(*wrong)
    assert moments.n == 0


def test_chunks_of_nodes_leave_no_trace(monkeypatch):
    samples = draw(40)
    monkeypatch.setattr(moments_module, "_CHUNK_BYTES", 8 * 8 * 6 * 2)
    assert_sums(make(samples), samples)
    monkeypatch.setattr(moments_module, "_CHUNK_BYTES", 1)
    assert_sums(make(samples), samples)


def test_spread_of_a_few_roundings_of_the_mean():
    """The mean of such a block cannot be represented: what is left of it is as large as the spread."""
    steps = np.random.default_rng(0).integers(-3, 4, (2, 1, 4, 30))
    unit = 2.0**-26  # the rounding of 1e8
    moments = PairMoments(1, 4, torch.float64)
    moments.update(*torch.from_numpy(1e8 + unit * steps))
    d = unit * (steps - steps.mean(-1, keepdims=True))
    np.testing.assert_allclose(moments.ss_x, (d[0] ** 2).sum(-1), rtol=1e-12)
    np.testing.assert_allclose(moments.ss_y, (d[1] ** 2).sum(-1), rtol=1e-12)
    np.testing.assert_allclose(moments.cross[0], d[0, 0] @ d[1, 0].T, rtol=1e-9, atol=1e-12 * unit**2)
