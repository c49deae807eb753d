"""The workflow's failure tests: killed with all its children, run twice at once, on stores it may not write."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from helpers import made_data

from softlabels.errors import FormatError
from softlabels.pipeline.receipts import Receipt
from softlabels.store import Store

#: A target of the labels alone, and one at the end of the whole chain.
SHORT, LONG = {"svls": {"method": "svls"}}, {"sing": {"method": "sing"}}


def begin(folder, *arguments, **popen):
    """Start the workflow in a project's folder, in a process group of its own."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, start_new_session=True, **pipes, **popen)


def finish(process):
    """Wait for a workflow; return its output, or fail."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def targets(rounds):
    """Return the targets of every project here."""
    return rounds(SHORT, LONG)


def project(folder, targets, **changes):
    """Make a project of one case with nothing computed yet."""
    made_data.write_cohort(folder, n_cases=1, targets=targets, pictures=False, **changes)
    return folder


def results(folder):
    """Return stage, key and manifest digest of every receipt, and fail if an entry is not what its receipt says."""
    found = set()
    for path in sorted((folder / "results").glob("*/*-*.json")):
        receipt = Receipt.read(path)
        assert Store(receipt.store).find(receipt.key, receipt.manifest) is not None
        found.add((receipt.stage, receipt.key, receipt.manifest))
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, targets):
    """Return the results and the seconds of a run without faults."""
    if targets is LONG:
        finish(begin(project(tmp_path_factory.mktemp("compiled"), LONG)))
    folder = project(tmp_path_factory.mktemp("undisturbed"), targets)
    started = time.perf_counter()
    finish(begin(folder))
    return results(folder), time.perf_counter() - started


def wait_for_entries(run, folder, n_entries):
    """Wait until a run has published so many entries, or has ended."""
    while run.poll() is None and len(list(Store(folder / "store").keys())) < n_entries:
        time.sleep(0.02)


def test_killed_with_all_its_children_a_run_is_resumed_by_running_again(tmp_path, targets, undisturbed, rounds, rng):
    expected, seconds = undisturbed
    n_rounds, n_killed, n_resumed = rounds(2, 20), 0, 0
    for number in range(n_rounds):
        folder = project(tmp_path / str(number), targets)
        run = begin(folder)
        # Spread over the run by what is done, however fast this machine is now, and random within each part.
        wait_for_entries(run, folder, number * (len(expected) + 1) // n_rounds)
        time.sleep(rng.uniform(0, seconds / len(expected)))
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            n_killed += 1
        run.communicate()
        assert Store(folder / "store").verify(deep=True) == []
        n_resumed += bool(list(Store(folder / "store").keys()))
        finish(begin(folder))
        assert results(folder) == expected
        assert Store(folder / "store").verify(deep=True) == []
    assert "Nothing to be done" in finish(begin(folder, "--dry-run"))
    print(f"{n_killed} of {n_rounds} runs killed, {n_resumed} with work to keep; all resumed to the same digests")
    assert n_killed > 0


def test_two_pipelines_on_one_store_both_succeed_and_agree(tmp_path, targets, undisturbed, rounds):
    for number in range(rounds(1, 5)):
        store = tmp_path / f"store{number}"
        folders = [project(tmp_path / f"{name}{number}", targets, store=str(store)) for name in ("one", "two")]
        for run in [begin(folder) for folder in folders]:
            finish(run)
        assert [results(folder) for folder in folders] == [undisturbed[0]] * 2
        assert Store(store).verify(deep=True) == []
        assert len(list(Store(store).keys())) == len(undisturbed[0])


def test_a_store_that_cannot_be_written_is_named_with_the_remedy(tmp_path, targets):
    folder = project(tmp_path / "project", targets)
    store = folder / "store"
    store.write_text("")
    run = begin(folder)
    output, _ = run.communicate(timeout=300)
    assert run.returncode != 0
    says = f"{store}: got a file, expected the store's folder; name another path"
    assert says in next((folder / "logs").glob("case0/prepare-*.log")).read_text()
    assert says in output
    store.unlink()
    finish(begin(folder))
    assert Store(store).verify(deep=True) == []


def test_one_flipped_bit_in_a_receipt_is_always_noticed_and_healed(tmp_path, targets, undisturbed, rounds, rng):
    folder = project(tmp_path, targets)
    finish(begin(folder))
    receipts = sorted((folder / "results").glob("case0/*-*.json"))
    n_rounds = rounds(50, 200)
    for receipt in receipts:
        content = receipt.read_bytes()
        for _ in range(n_rounds):
            position = rng.randrange(8 * len(content))
            flipped = bytearray(content)
            flipped[position // 8] ^= 1 << position % 8
            receipt.write_bytes(flipped)
            with pytest.raises(FormatError, match=f"receipt {receipt}: damaged.*softlabels verify --discard"):
                Receipt.read(receipt)
    print(f"{n_rounds * len(receipts)} of {n_rounds * len(receipts)} flips in receipts noticed")
    assert_healed_by_discarding(folder, undisturbed, [str(receipt.relative_to(folder)) for receipt in receipts])


def test_damaged_and_absent_entries_are_named_discarded_and_computed_again(tmp_path, targets, undisturbed):
    folder = project(tmp_path, targets)
    finish(begin(folder))
    store = Store(folder / "store")
    entries = list(map(store.find, store.keys()))
    (entries[0].path / "QUALITY.json").unlink()
    shutil.rmtree(entries[1].path)
    assert_healed_by_discarding(folder, undisturbed, [entry.key for entry in entries[:2]])


def assert_healed_by_discarding(folder, undisturbed, damaged):
    """Fail unless verify names all that is damaged, and verify --discard and a run bring everything back."""
    verify = [sys.executable, "-m", "softlabels", "verify"]
    found = subprocess.run(verify, cwd=folder, text=True, capture_output=True)
    assert found.returncode == 1
    assert all(name in found.stdout for name in damaged)
    subprocess.run([*verify, "--discard"], cwd=folder, check=True, capture_output=True)
    finish(begin(folder))
    assert results(folder) == undisturbed[0]
    assert (folder / "results" / "index.json").is_file()
    subprocess.run([*verify, "--deep"], cwd=folder, check=True, capture_output=True)
