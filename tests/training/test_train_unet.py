"""The example trainer learns from an index, and says so when it does not."""

import importlib.util

import pytest
import torch
from helpers import ROOT
from helpers.made_cohort import SHAPES, make_cohort

TRAINER = ROOT / "examples" / "train_unet.py"


@pytest.fixture(scope="module")
def trainer():
    spec = importlib.util.spec_from_file_location("train_unet", TRAINER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def train(trainer, tmp_path_factory, monkeypatch, capsys):
    """Give a function that runs the trainer on a small cohort and gives its last line."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads on tiny patches wait for each other on a busy machine
    index = make_cohort(tmp_path_factory.mktemp("cohort"), {"large": SHAPES["large"], "small": SHAPES["small"]})

    def run(*options):
        fixed = ["train_unet.py", str(index), "--patch-size", "8", "16", "16", "--workers", "0"]
        monkeypatch.setattr("sys.argv", [*fixed, *options])
        trainer.main()
        return capsys.readouterr().out.splitlines()[-1]

    yield run
    torch.set_num_threads(threads)


@pytest.mark.parametrize("target", ["geols", "sing"])
def test_the_loss_falls_on_every_kind_of_target(train, target):
    # 15 steps are within the noise of such small patches: it then hangs on the order of the cases.
    assert train("--target", target, "--steps", "40").startswith("mean loss of the first 8 steps")


def test_a_loss_that_does_not_fall_is_a_failure(train):
    with pytest.raises(SystemExit, match="the loss did not fall"):
        train("--target", "geols", "--steps", "2", "--learning-rate", "100")


def test_training_is_deterministic(train):
    first, second = (train("--target", "geols", "--steps", "15") for _ in range(2))
    assert first == second


def test_a_patch_that_the_network_cannot_halve_is_refused(train, capsys):
    with pytest.raises(SystemExit):
        train("--target", "geols", "--patch-size", "8", "9", "8")
    assert "multiples of 4" in capsys.readouterr().err
