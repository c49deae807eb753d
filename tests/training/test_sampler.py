"""Laws of the sampler: every epoch has patches of its own, ranks share one order, and a resumed run goes on in it."""

import collections
import pickle
import warnings

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers.made_cohort import SHAPES, make_cohort
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, RandomSampler

from softlabels.errors import InputError
from softlabels.training.dataset import SoftLabelDataset
from softlabels.training.sampler import EpochSampler, RepeatedPatchWarning

N_EPOCHS = 3


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cohort"), {"large": SHAPES["large"], "other": (19, 64, 40)})


@pytest.fixture
def dataset(index):
    """Return a new data set of 16 small patches out of two large volumes, drawn from some 10**5 places each."""
    return SoftLabelDataset(index, target="onehot", patch_size=(3, 4, 5), patches_per_case=8, foreground_fraction=0.0)


def patches(loader):
    """Return case and origin of everything that one epoch of a loader gives."""
    return [
        (case_id, *map(int, origin))
        for batch in loader
        for case_id, origin in zip(batch["case_id"], batch["origin"], strict=True)
    ]


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}])
def test_a_plain_loop_sees_other_patches_in_every_epoch(dataset, options):
    loader = DataLoader(dataset, batch_size=4, sampler=EpochSampler(dataset), **options)
    seen = [patch for _ in range(N_EPOCHS) for patch in patches(loader)]
    assert len(set(seen)) == len(seen) == N_EPOCHS * len(dataset)


def test_a_pair_is_the_sample_of_that_epoch(dataset):
    sampler = EpochSampler(dataset)
    for epoch in range(N_EPOCHS):
        pairs = list(sampler)
        assert {e for e, _ in pairs} == {epoch}
        assert sorted(i for _, i in pairs) == list(range(len(dataset)))
        dataset.set_epoch(epoch)
        for pair in pairs:
            by_pair, by_index = dataset[pair], dataset[pair[1]]
            assert by_pair["origin"].tolist() == by_index["origin"].tolist()
            assert torch.equal(by_pair["image"], by_index["image"])


def test_spawned_workers_give_the_samples_of_one_process(dataset):
    alone = [patches(DataLoader(dataset, batch_size=4, sampler=s)) for s in [EpochSampler(dataset)] for _ in range(2)]
    fresh = pickle.loads(pickle.dumps(dataset))
    options = {"num_workers": 2, "multiprocessing_context": "spawn", "persistent_workers": True}
    loader = DataLoader(fresh, batch_size=4, sampler=EpochSampler(fresh), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RepeatedPatchWarning)  # the copy remembers what the original was asked
        assert [patches(loader) for _ in range(2)] == alone


@pytest.mark.parametrize("options", [{"replacement": True}, {"weights": {"large": 3.0, "other": 1.0}}, {}])
def test_no_patch_repeats_in_an_epoch_that_draws_an_index_again(dataset, options):
    sampler = EpochSampler(dataset, num_samples=10 * len(dataset), **options)
    seen = patches(DataLoader(dataset, batch_size=4, sampler=sampler))
    assert len(set(seen)) == len(seen) == 10 * len(dataset)


def test_torchs_own_sampler_with_replacement_repeats_patches(dataset):
    """The reason for the law above: were this to fail, the sampler would not be needed."""
    sampler = RandomSampler(dataset, replacement=True, num_samples=64)
    with pytest.warns(RepeatedPatchWarning):
        seen = patches(DataLoader(dataset, batch_size=4, sampler=sampler))
    assert len(set(seen)) <= len(dataset)


@pytest.mark.parametrize("weights", [{"large": 3.0, "other": 1.0}, {"large": 0.0, "other": 2.0}])
def test_cases_are_drawn_in_proportion_to_their_weights(dataset, weights):
    n = 4000
    drawn = EpochSampler(dataset, weights=weights).order(0, n) % len(dataset)
    counts = collections.Counter(np.where(drawn < 8, "large", "other").tolist())
    share = weights["large"] / sum(weights.values())
    assert abs(counts["large"] / n - share) <= 5 * np.sqrt(share * (1 - share) / n)
    per_index = np.bincount(drawn, minlength=len(dataset))[8:]
    assert per_index.min() > 0


def test_weights_of_indices_are_as_good_as_those_of_cases(dataset):
    by_case = EpochSampler(dataset, weights={"large": 3.0, "other": 1.0})
    by_index = EpochSampler(dataset, weights=[3.0] * 8 + [1.0] * 8)
    assert list(by_case) == list(by_index)


@given(n=st.integers(1, 40), world=st.integers(1, 7), factor=st.sampled_from([1, 3]), replacement=st.booleans())
def test_ranks_share_one_order_in_parts_of_equal_length(n, world, factor, replacement):
    def parts(world):
        options = {"num_samples": factor * n, "replacement": replacement, "seed": 5, "world_size": world}
        samplers = [EpochSampler(range(n), rank=rank, **options) for rank in range(world)]
        for epoch in range(2):
            found = [list(sampler) for sampler in samplers]
            assert [len(part) for part in found] == [len(sampler) for sampler in samplers] == [len(found[0])] * world
            assert {e for part in found for e, _ in part} == {epoch}
        return [i for part in found for _, i in part]

    together, alone = parts(world), parts(1)
    assert len(set(together)) == len(together)
    assert set(together) >= set(alone)
    if not replacement:
        assert len(together) - len(alone) < world
        assert set(range(factor * n)) <= set(together)


def _of_rank(rank, path, options, results):
    """Run in a process of its own: what this rank takes in two epochs, without being told its rank."""
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    sampler = EpochSampler(range(7), **options)
    results[rank] = [list(sampler), list(sampler), len(sampler)]
    dist.barrier()  # a rank that leaves while the other one still connects would end it with an error
    dist.destroy_process_group()


def test_ranks_of_torch_distributed_are_found(tmp_path):
    context = torch.multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.spawn(_of_rank, (tmp_path / "rendezvous", {"seed": 2}, results), nprocs=2)
        found = dict(results)
    for rank in range(2):
        alone = EpochSampler(range(7), seed=2, rank=rank, world_size=2)
        assert found[rank] == [list(alone), list(alone), 4]


def test_a_state_resumes_in_the_middle_of_an_epoch():
    sampler = EpochSampler(range(10), seed=1)
    first = list(sampler)
    running = iter(sampler)
    begun = [next(running) for _ in range(4)]
    resumed = EpochSampler(range(10), seed=1)
    resumed.load_state_dict(pickle.loads(pickle.dumps(sampler.state_dict())))
    resumed.set_epoch(1)  # as Lightning calls it
    rest = list(running)
    assert list(resumed) == rest
    assert sorted(i for _, i in begun + rest) == sorted(i for _, i in first)
    assert list(resumed) == list(sampler)


def test_a_state_at_the_end_of_an_epoch_resumes_with_the_next():
    sampler, resumed = EpochSampler(range(5)), EpochSampler(range(5))
    list(sampler)
    resumed.load_state_dict(sampler.state_dict())
    assert list(resumed) == list(sampler)


def test_an_epoch_that_was_left_early_is_over():
    sampler = EpochSampler(range(10))
    assert next(iter(sampler))[0] == 0
    assert next(iter(sampler))[0] == 1
    iter(sampler)  # nothing was taken of it
    assert next(iter(sampler))[0] == 2


def test_set_epoch_chooses_the_next_epoch():
    sampler, counting = EpochSampler(range(6)), EpochSampler(range(6))
    epochs = [list(counting) for _ in range(4)]
    sampler.set_epoch(3)
    assert list(sampler) == epochs[3]
    sampler.set_epoch(1)
    assert list(sampler) == epochs[1]
    assert list(sampler) == epochs[2]


def test_the_order_differs_between_epochs_and_seeds_and_not_between_runs():
    orders = {
        (seed, epoch): tuple(EpochSampler(range(20), seed=seed).order(epoch, 20)) for seed in (0, 1) for epoch in (0, 1)
    }
    assert len(set(orders.values())) == 4
    assert tuple(EpochSampler(range(20), seed=1).order(1, 20)) == orders[1, 1]


def test_a_loop_without_sampler_or_set_epoch_is_warned_once(dataset):
    loader = DataLoader(dataset, batch_size=4, shuffle=True)
    patches(loader)
    with pytest.warns(RepeatedPatchWarning, match="EpochSampler") as caught:
        for _ in range(2):
            patches(loader)
    assert len(caught) == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("is_persistent", [False, True])
def test_workers_notice_together(dataset, is_persistent):
    loader = DataLoader(dataset, batch_size=4, shuffle=True, num_workers=2, persistent_workers=is_persistent)
    patches(loader)
    with pytest.raises(RepeatedPatchWarning):  # an error of the worker
        patches(loader)


def test_a_new_sampler_for_each_epoch_is_warned_of(dataset):
    patches(DataLoader(dataset, sampler=EpochSampler(dataset)))
    with pytest.warns(RepeatedPatchWarning, match="one for the whole training"):
        patches(DataLoader(dataset, sampler=EpochSampler(dataset)))


def test_looking_at_a_sample_before_training_is_no_repetition(dataset):
    dataset[0]
    patches(DataLoader(dataset, sampler=EpochSampler(dataset)))


def test_set_epoch_of_the_data_set_is_no_repetition(dataset):
    loader = DataLoader(dataset, batch_size=4, shuffle=True)
    seen = []
    for epoch in range(N_EPOCHS):
        dataset.set_epoch(epoch)
        seen += patches(loader)
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("mode", ["grid", "whole"])
def test_what_is_meant_to_repeat_does_not_warn(index, mode):
    size = {"patch_size": (20, 70, 40)} if mode == "grid" else {}
    dataset = SoftLabelDataset(index, target="onehot", mode=mode, **size)
    assert patches(DataLoader(dataset)) == patches(DataLoader(dataset))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples: got 0"),
        ({"shuffle": False, "replacement": True}, "shuffle: got False"),
        ({"seed": -1}, "seed: got -1"),
        ({"rank": 2, "world_size": 2}, "rank, world_size: got 2, 2"),
        ({"rank": 0}, "rank, world_size: got 0, None"),
        ({"weights": [1.0, 2.0]}, r"weights: got \(2,\), expected one per sample, \(16,\)"),
        ({"weights": [-1.0] + [1.0] * 15}, "weights: expected finite numbers >= 0"),
        ({"weights": [0.0] * 16}, "at least one of them > 0"),
        ({"weights": {"large": 1.0}}, r"1 cases have none \(other\)"),
        ({"weights": {"large": 1.0, "other": 1.0, "thin": 1.0}}, r"no case of the data set \(thin\)"),
    ],
)
def test_wrong_arguments_are_refused(dataset, options, message):
    with pytest.raises(InputError, match=message):
        EpochSampler(dataset, **options)


def test_an_empty_data_set_is_refused():
    with pytest.raises(InputError, match="the data set is empty"):
        EpochSampler([])


def test_weights_by_case_of_a_grid_are_refused(index):
    grid = SoftLabelDataset(index, target="onehot", mode="grid", patch_size=(20, 70, 40))
    with pytest.raises(InputError, match="expected a SoftLabelDataset of mode random or whole"):
        EpochSampler(grid, weights={"large": 1.0, "other": 1.0})


def test_the_state_of_another_order_is_refused():
    with pytest.raises(InputError, match="the state has seed 1, this sampler 0"):
        EpochSampler(range(5)).load_state_dict(EpochSampler(range(5), seed=1).state_dict())
