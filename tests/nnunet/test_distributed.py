"""Two processes train together (gloo on the CPU, as NCCL on GPUs): equal weights, different patches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

pytest.importorskip("nnunetv2", reason="make test-nnunet runs these tests")


def _train(rank: int, rendezvous: Path, environment: dict[str, str], results) -> None:
    """Run in a process of its own: two steps of a distributed training; nnU-Net itself starts CUDA there only."""
    os.environ.update(environment, nnUNet_n_proc_DA="0", SOFTLABELS_TARGET="geols")
    torch.set_num_threads(1)
    import nnunetv2.training.nnUNetTrainer.nnUNetTrainer as module
    from nnunetv2.run.run_training import get_trainer_from_args
    from torch.nn.parallel import DistributedDataParallel

    module.DDP = lambda network, device_ids: DistributedDataParallel(network)
    module.device_count = lambda: 2
    trainer = get_trainer_from_args("1", "3d_fullres", 0, "nnUNetTrainerSoftLabels", device=torch.device("cpu"))
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    trainer.is_ddp, trainer.local_rank = True, rank
    trainer.output_folder = str(Path(trainer.output_folder).with_name("fold_distributed"))
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    batches = [next(trainer.dataloader_train) for _ in range(2)]
    losses = [float(trainer.train_step(batch)["loss"]) for batch in batches]
    weights = torch.cat([p.detach().flatten() for p in trainer.network.parameters()])
    shapes = [tuple(level.shape) for level in batches[0]["target"]]
    results[rank] = losses, float(weights.double().sum()), float(batches[0]["data"].double().sum()), shapes
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_two_processes_train_one_network_on_different_patches(nnunet, trainers, tmp_path):
    nnunet.prepare(1, "3d_fullres")
    context = torch.multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        results = manager.dict()
        arguments = (tmp_path / "rendezvous", nnunet.environment, results)
        torch.multiprocessing.spawn(_train, arguments, nprocs=2)
        first, second = results[0], results[1]
    assert all(torch.isfinite(torch.tensor([*first[0], *second[0]])))
    assert first[1] == second[1]
    assert first[2] != second[2]
    assert first[3][0][:2] == (1, 1 + 3)
    assert (
        nnunet.fold(1, "3d_fullres", "nnUNetTrainerSoftLabels").with_name("fold_distributed") / "softlabels.json"
    ).exists()
