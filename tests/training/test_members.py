"""Members: who is in the bag, and that each member depends on its number alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gsnn.base.errors import DataError, RunError
from gsnn.data.split import conditions
from gsnn.training.members import Member, check_members, draw_conditions, train_member
from gsnn.training.prepare import prepare


def test_a_draw_is_of_conditions_with_all_of_their_replicates():
    condition = np.repeat(np.arange(30), [1, 2, 3] * 10)
    times = draw_conditions(condition, seed=4)
    drawn = [set(times[condition == c].tolist()) for c in range(30)]
    assert all(len(each) == 1 for each in drawn)
    assert sum(each.pop() for each in drawn) == 30  # as many conditions as there are


def test_a_draw_is_the_bootstrap_of_its_seed():
    # Nothing but numpy's own draw, of 40 conditions in the order of their numbers.
    drawn = np.random.default_rng(9).integers(40, size=40)
    assert draw_conditions(np.arange(40), 9).tolist() == [int((drawn == c).sum()) for c in range(40)]


def test_about_37_percent_are_out_of_the_bag():
    out = [np.mean(draw_conditions(np.arange(50), seed) == 0) for seed in range(200)]
    assert np.mean(out) == pytest.approx((1 - 1 / 50) ** 50, abs=0.01)


def test_a_draw_of_few_always_leaves_one_out():
    assert all((draw_conditions(np.array([0, 1]), seed) == 0).any() for seed in range(50))


def test_refuses_what_no_members_can_be_drawn_from(new_data, new_config):
    prepared = prepare(new_data(), new_config())
    with pytest.raises(DataError, match="members must be at least 2, got 1"):
        check_members(prepared, 1)
    few = prepare(new_data(samples=5), new_config())
    with pytest.raises(DataError, match="has 4 distinct treatments"):
        check_members(few, 3)
    check_members(prepared, 2)


def test_a_member_learns_from_its_bag_alone(new_data, new_config):
    data, config = new_data(missing=0), new_config()
    prepared = prepare(data, config)
    before = train_member(prepared, config, 1)
    assert before.times.shape == prepared.split.train.shape
    assert before.times.tolist() == draw_conditions(conditions(data.x[prepared.split.train]), before.seed).tolist()
    # Responses of conditions out of the bag may be anything.
    prepared.train[1][before.times == 0] = 1e3
    after = train_member(prepared, config, 1)
    for a, b in zip(before.model.parameters(), after.model.parameters(), strict=True):
        assert torch.equal(a, b)
    other = train_member(prepared, config, 2)
    assert other.seed != before.seed
    assert other.times.tolist() != before.times.tolist()


def test_a_member_comes_back_from_its_folder(tmp_path, new_data, new_config):
    config = new_config(epochs=2)
    member = train_member(prepare(new_data(), config), config, 1)
    member.write(tmp_path / "1", "abc")
    assert Member.finished(tmp_path / "1", "abc")
    assert not Member.finished(tmp_path / "1", "of another training")
    again = Member.read(tmp_path / "1")
    assert (again.times.tolist(), again.seed) == (member.times.tolist(), member.seed)
    x = torch.ones(3, 2)
    assert torch.equal(again.model(x), member.model(x))
    assert member.early is not None
    assert again.early is not None
    assert torch.equal(again.early(x), member.early(x))
    (tmp_path / "1" / "member.json").write_text("{}")
    assert not Member.finished(tmp_path / "1", "abc")
    with pytest.raises(RunError, match=r"member\.json is damaged .*--resume"):
        Member.read(tmp_path / "1")
