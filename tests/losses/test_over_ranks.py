"""Overlap over all processes: the loss and the gradient of one process with the joint batch."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from softlabels.errors import InputError
from softlabels.losses import dice_metric_loss, jaccard_metric_loss

LOSSES = {"dice": dice_metric_loss, "jaccard": jaccard_metric_loss}
N_RANKS = 2


def batch_of(rank):
    generator = torch.Generator().manual_seed(rank)
    features = torch.randn((2, 3, 5, 4), generator=generator, dtype=torch.float64)
    target = torch.rand((2, 3, 5, 4), generator=generator, dtype=torch.float64).softmax(1)
    valid = torch.rand((2, 5, 4), generator=generator) < 0.8
    return features, target, valid


def loss_and_gradient(name, batches, **options):
    """Return the loss of a network with one weight per class on some batches, and the gradient."""
    weight = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    features, target, valid = (torch.cat(parts) for parts in zip(*batches, strict=True))
    probabilities = (features * weight.reshape(1, 3, 1, 1)).softmax(1)
    loss = LOSSES[name](probabilities, target, valid=valid, over_batch=True, **options)
    loss.backward()
    return loss.detach(), weight.grad


def _run(rank: int, rendezvous: Path, results) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=N_RANKS)
    for name in LOSSES:
        loss, gradient = loss_and_gradient(name, [batch_of(rank)], over_ranks=True)
        dist.all_reduce(gradient)  # as DistributedDataParallel does
        results[rank, name] = loss, gradient / N_RANKS
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_loss_over_ranks_is_that_of_the_joint_batch(tmp_path):
    context = torch.multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.spawn(_run, (tmp_path / "rendezvous", results), nprocs=N_RANKS)
        found = dict(results)
    for name in LOSSES:
        loss, gradient = loss_and_gradient(name, [batch_of(rank) for rank in range(N_RANKS)])
        alone, _ = loss_and_gradient(name, [batch_of(0)])
        assert not torch.isclose(alone, loss)
        for rank in range(N_RANKS):
            torch.testing.assert_close(found[rank, name][0], loss, rtol=1e-12, atol=0)
            torch.testing.assert_close(found[rank, name][1], gradient, rtol=1e-10, atol=0)


def test_one_process_needs_no_partner_and_samples_have_none():
    joint = loss_and_gradient("dice", [batch_of(0)], over_ranks=True)
    assert torch.equal(joint[0], loss_and_gradient("dice", [batch_of(0)])[0])
    with pytest.raises(InputError, match="over_ranks: got True without over_batch"):
        dice_metric_loss(torch.rand(1, 2, 3), torch.rand(1, 2, 3), over_ranks=True)
