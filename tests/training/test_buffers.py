"""Laws of the pool: memory is lent once at a time, and used again when nothing refers to it."""

import numpy as np
import pytest
import torch

from softlabels.training.buffers import BufferPool


def address(array):
    return array.__array_interface__["data"][0]


def test_an_array_is_writable_contiguous_and_of_the_shape_and_dtype_asked_for():
    for shape, dtype in (((2, 3, 4), np.float32), ((5,), np.int64), ((0, 3), bool), ((), np.uint8)):
        array = BufferPool().empty(shape, dtype)
        assert array.shape == shape and array.dtype == dtype
        assert array.flags.writeable and array.flags.c_contiguous


@pytest.mark.parametrize(
    "holder",
    [
        lambda array: array[1:],
        lambda array: array.T[1:, :2],
        lambda array: array.view(np.uint8),
        torch.from_numpy,
        lambda array: torch.from_numpy(array)[1].unsqueeze(0),
        lambda array: memoryview(array),
        lambda array: np.asarray(torch.from_numpy(array[:1])),
    ],
)
def test_memory_is_not_lent_again_while_anything_refers_to_it(holder):
    pool = BufferPool()
    array = pool.empty((4, 6), np.float32)
    array[...] = 7
    first, held = address(array), holder(array)
    del array
    others = [pool.empty((4, 6), np.float32) for _ in range(3)]
    assert first not in map(address, others)
    for other in others:
        other[...] = 0
    assert np.asarray(held).any()
    del held
    assert address(pool.empty((24,), np.float32)) == first


def test_memory_of_another_size_is_not_used():
    pool = BufferPool()
    array = pool.empty((4, 6), np.float32)
    first = address(array)
    del array
    assert pool.unused_bytes == 96
    assert address(pool.empty((20,), np.float32)) != first
    assert address(pool.empty((25,), np.float32)) != first
    assert address(pool.empty((12,), np.float64)) == first


@pytest.mark.parametrize("n_bytes", [90, 121, 12_340_000])
def test_memory_of_a_little_more_is_used(n_bytes):
    pool = BufferPool()
    array = pool.empty((n_bytes,), np.uint8)
    first = address(array)
    array[...] = 1
    del array
    assert n_bytes <= pool.unused_bytes < 1.125 * n_bytes
    again = pool.empty((n_bytes + 1,), np.uint8)
    again[...] = 1
    assert address(again) == first and again.size == n_bytes + 1


def test_no_more_unused_memory_is_kept_than_allowed():
    pool = BufferPool(kept_bytes=100)
    arrays = [pool.empty((40,), np.uint8) for _ in range(5)]
    assert pool.unused_bytes == 0
    del arrays
    assert pool.unused_bytes == 80
