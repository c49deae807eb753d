"""Which samples an epoch consists of, as pairs (epoch, index): every epoch has its own patches, without any call.

A PyTorch data set receives only the index of a sample and cannot know the epoch, so a loop that forgets
`set_epoch` trains on the same patches forever. Every training framework iterates over the sampler again in every epoch;
so the epoch travels with the index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any
from warnings import warn

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler

from softlabels.errors import InputError

#: A word of the generator's counter that the streams of samples (`sample_rng`) leave at 0.
_ORDER = 1


class RepeatedPatchWarning(UserWarning):
    """A random patch was requested twice in one epoch."""


class EpochSampler(DistributedSampler[tuple[int, int]]):
    """Sample the indices of a data set in random order, each as a pair (epoch, index).

    Each iteration is the next epoch: plain loops, Lightning, ignite and MONAI engines need no call and no callback.
    What a pair means depends on (seed of the data set, epoch, index) only. An index that an epoch draws again, because
    it draws with replacement or more samples than there are, is yielded as ``index + k * len(dataset)``, the k-th
    further patch of the same case: no patch occurs twice.

    Parameters
    ----------
    dataset : SoftLabelDataset
        Not behind `torch.utils.data.Subset`, which takes no pairs; choose cases in the data set instead.
    num_samples : int, optional
        Length of an epoch over all ranks, >= 1; by default ``len(dataset)``. A larger number goes round again.
    shuffle : bool
        False: in ascending order.
    replacement : bool
        Draw each index independently of the others, uniformly. Needs `shuffle`.
    weights : mapping of str to float, or sequence of float, optional
        Draw with replacement, in proportion to these weights >= 0: of each case by its id (all patches of a case share
        its weight), or of each index.
    seed : int
        Of the order, >= 0; independent of the seed of the data set, which chooses the patches. The same on all ranks.
    rank, world_size : int, optional
        By default those of `torch.distributed` at the beginning of an epoch, or 0 and 1 without it. Ranks share one
        order: rank r takes every world_size-th sample from r on. Where the number does not divide, further patches
        fill the last round, so that all ranks take equally many steps.

    Raises
    ------
    InputError
        If an argument is wrong, or weights name a case that the data set does not have or leave one out.

    Notes
    -----
    It is a `DistributedSampler` only for `isinstance`: Lightning, Accelerate and others wrap every other sampler in one
    of their own when they run on several ranks, which would share out the samples twice.

    To resume in the middle of an epoch, save `state_dict()` with the model; `torchdata.stateful_dataloader` does so by
    itself, and knows what its workers have prefetched. With a plain DataLoader and workers, the state is ahead of the
    training by the batches that are prefetched, so save at the end of an epoch.

    Examples
    --------
    >>> sampler = EpochSampler(range(3), shuffle=False)
    >>> list(sampler), list(sampler)
    ([(0, 0), (0, 1), (0, 2)], [(1, 0), (1, 1), (1, 2)])
    >>> list(EpochSampler(range(3), shuffle=False, num_samples=5))
    [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]
    """

    def __init__(  # no super().__init__(), which asks torch.distributed for the rank too early
        self,
        dataset: Sized,
        *,
        num_samples: int | None = None,
        shuffle: bool = True,
        replacement: bool = False,
        weights: Mapping[str, float] | Sequence[float] | None = None,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        n = len(dataset)
        if n < 1:
            raise InputError("EpochSampler: the data set is empty, expected at least one sample")
        if num_samples is not None and num_samples < 1:
            raise InputError(f"num_samples: got {num_samples}, expected an integer >= 1, or None for all {n}")
        if (replacement or weights is not None) and not shuffle:
            raise InputError("shuffle: got False, but replacement and weights draw at random. Leave it True")
        if not 0 <= seed < 2**63:
            raise InputError(f"seed: got {seed}, expected an integer in 0..2**63-1")
        if (rank is None) != (world_size is None) or not 0 <= (rank or 0) < (1 if world_size is None else world_size):
            raise InputError(f"rank, world_size: got {rank}, {world_size}, expected both with 0 <= rank < world_size")
        self.n_indices, self.n_per_epoch, self.shuffle, self.seed = n, num_samples or n, shuffle, seed
        self.replacement, self.probabilities = replacement, _probabilities(dataset, weights)
        self._given_rank = None if rank is None or world_size is None else (rank, world_size)
        #: Epoch and samples done in it: of the iteration that runs, and of where the next one begins.
        self._at, self._next = (0, 0), (0, 0)

    def __len__(self) -> int:
        """Return the number of samples that this rank takes in an epoch."""
        return -(-self.n_per_epoch // self._rank_and_world()[1])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the pairs of the next epoch; it counts as begun when the first one is taken."""
        (epoch, done), length = self._next, len(self)
        self._at, self._next = (epoch, done), (epoch + 1, 0)
        rank, world = self._rank_and_world()
        for index in self.order(epoch, length * world)[rank::world][done:].tolist():
            done += 1
            self._at = (epoch, done)
            yield epoch, index

    def order(self, epoch: int, n_samples: int) -> NDArray[np.int64]:
        """Return the first indices of an epoch over all ranks, (n_samples,); cost O(n_samples log n_samples)."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch], counter=[0, 0, 0, _ORDER]))
        if self.probabilities is not None:
            return _numbered(rng.choice(self.n_indices, n_samples, p=self.probabilities), self.n_indices)
        if self.replacement:
            return _numbered(rng.integers(self.n_indices, size=n_samples), self.n_indices)
        rounds = range(-(-n_samples // self.n_indices))
        one = rng.permutation if self.shuffle else np.arange
        return np.concatenate([one(self.n_indices) + k * self.n_indices for k in rounds])[:n_samples]

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is; only to resume, or where a framework calls it by itself."""
        if epoch != self._next[0]:
            self._next = (int(epoch), 0)

    def state_dict(self) -> dict[str, Any]:
        """Return where this rank is: the epoch, and how many of its samples it has yielded."""
        epoch, done = self._at
        return {"epoch": epoch, "done": done, "seed": self.seed, "n_per_epoch": self.n_per_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken: the next iteration yields the rest of that epoch.

        Raises
        ------
        InputError
            If the state is of a sampler with another seed or length of an epoch, whose order is another.
        """
        for name in ("seed", "n_per_epoch"):
            if state[name] != getattr(self, name):
                raise InputError(
                    f"EpochSampler: the state has {name} {state[name]}, this sampler {getattr(self, name)}. "
                    "Build it with the arguments of the run that you resume"
                )
        epoch, done = int(state["epoch"]), int(state["done"])
        self._at = (epoch, done)
        self._next = self._at if done < len(self) else (epoch + 1, 0)

    def _rank_and_world(self) -> tuple[int, int]:
        """Return the number of this process and of how many."""
        if self._given_rank is not None:
            return self._given_rank
        if dist.is_available() and dist.is_initialized():
            return dist.get_rank(), dist.get_world_size()
        return 0, 1


class RepeatWatch:
    """Detect a random patch that is requested twice in one epoch, by any worker; warns once.

    Samples that were asked for by index and by (epoch, index) are kept apart, so looking at ``dataset[0]`` before a
    training with `EpochSampler` is no repetition.

    Parameters
    ----------
    n_samples : int
        Length of the data set; 16 bytes of shared memory for each.
    """

    def __init__(self, n_samples: int) -> None:
        self._n_samples = n_samples
        self._last_epoch = torch.full((2, n_samples), -1, dtype=torch.int64).share_memory_()
        self._has_warned = torch.zeros(1, dtype=torch.bool).share_memory_()

    def note(self, epoch: int, number: int, *, is_pair: bool) -> None:
        """Note that a sample was requested."""
        if number >= self._n_samples:  # a further patch of an index, which itself is asked for too
            return
        last = self._last_epoch[int(is_pair)]
        if int(last[number]) == epoch and not bool(self._has_warned[0]):
            self._has_warned[0] = True
            warn(
                f"sample {number} of epoch {epoch} was requested twice and is the same patch both times. For other "
                "patches in every epoch give the DataLoader sampler=EpochSampler(dataset), one for the whole training; "
                "or call dataset.set_epoch(epoch) before each epoch",
                RepeatedPatchWarning,
                stacklevel=3,
            )
        last[number] = epoch


def _numbered(drawn: NDArray[np.int64], n_indices: int) -> NDArray[np.int64]:
    """Return drawn indices, the k-th repetition of each raised by ``k * n_indices``.

    Examples
    --------
    >>> _numbered(np.array([4, 1, 4, 4]), 10).tolist()
    [4, 1, 14, 24]
    """
    by_index = np.argsort(drawn, kind="stable")
    ascending = drawn[by_index]
    repetition = np.arange(len(drawn)) - np.searchsorted(ascending, ascending)
    numbered = np.empty(len(drawn), np.int64)
    numbered[by_index] = ascending + n_indices * repetition
    return numbered


def _probabilities(dataset: Any, weights: Mapping[str, float] | Sequence[float] | None) -> NDArray[np.float64] | None:
    """Return the probability of each index, or None for equal ones."""
    if weights is None:
        return None
    of_index = _weights_of_cases(dataset, weights) if isinstance(weights, Mapping) else np.asarray(weights, np.float64)
    if of_index.shape != (len(dataset),):
        raise InputError(
            f"weights: got {of_index.shape}, expected one per sample, ({len(dataset)},), or one per case id"
        )
    if not (np.isfinite(of_index).all() and of_index.min() >= 0 and of_index.sum() > 0):
        raise InputError("weights: expected finite numbers >= 0, at least one of them > 0")
    return of_index / of_index.sum()


def _weights_of_cases(dataset: Any, weights: Mapping[str, float]) -> NDArray[np.float64]:
    """Return the weight of each index from that of its case."""
    case_ids = getattr(dataset, "case_ids", None)
    if case_ids is None or getattr(dataset, "mode", None) == "grid":
        raise InputError("weights by case id: expected a SoftLabelDataset of mode random or whole. Give one per index")
    unknown, missing = sorted(set(weights) - set(case_ids)), sorted(set(case_ids) - set(weights))
    if unknown or missing:
        raise InputError(
            f"weights: {len(unknown)} ids are no case of the data set ({', '.join(unknown[:3]) or '-'}), and "
            f"{len(missing)} cases have none ({', '.join(missing[:3]) or '-'}). Give one weight per case"
        )
    return np.repeat([float(weights[case_id]) for case_id in case_ids], len(dataset) // len(case_ids))
