"""Laws of layers that are made while they are written: the bytes of the dense layer, and no volume made twice."""

import numpy as np
import pytest

from softlabels._shared.on_demand import VolumesOnDemand
from softlabels.store import BitRound, Lossless, ScaleOffset
from softlabels.store.format import chunk_shape
from softlabels.store.shard import write_shard

SHAPE = (23, 40, 64, 70)
ENCODINGS = {"rounded": BitRound(15), "quantised": ScaleOffset("uint8", 0, 1), "exact": Lossless()}


@pytest.mark.parametrize("n_together", [1, 2, 4, 7, 23])
@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=list(ENCODINGS))
def test_each_volume_is_made_once_and_the_file_is_that_of_the_dense_layer(tmp_path, encoding, n_together):
    dense = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    made = []

    def make(first, stop):
        made.extend(range(first, stop))
        return dense[first:stop].copy()

    volumes = VolumesOnDemand(SHAPE, make, dtype=np.float32, n_together=n_together)
    records = [write_shard(tmp_path / str(i), one, encoding, 2) for i, one in enumerate((dense, volumes))]
    assert made == list(range(len(dense)))
    assert records[0] == records[1] and (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


def test_groups_that_are_made_and_channels_that_share_chunks_need_not_fit():
    assert chunk_shape(SHAPE, itemsize=4, is_rounded=True)[0] not in (1, 2, 4, 7)
