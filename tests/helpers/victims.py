"""What the failure tests run in processes of their own: writers and readers that may be killed, starved or raced."""

import hashlib
import os
import resource
import signal
import sys

import numpy as np

from helpers.stored_layers import key_of
from softlabels.errors import FormatError
from softlabels.grid import Grid
from softlabels.store import BitRound, Layer, ScaleOffset, Store

GRID = Grid((30, 100, 90), (3.0, 1.0, 1.0))


def example_layers(number, grid=GRID):
    """Return layers of every encoding and role; their values depend on the number.

    Under the memory limits of the tests, these fail in Python. With those of `stored_layers`, it was Blosc that found
    no memory, and it then ended the process or compressed less.
    """
    values = np.random.default_rng(number).random((3, *grid.shape), np.float32)
    return [
        Layer("target", values, list("abc"), ScaleOffset("uint8", 0, 1)),
        Layer("distance", values[0] * 100, encoding=BitRound(12)),
        Layer("labels", (values[0] > 0.7).astype(np.uint8), role="labels"),
    ]


def publish(store, number=0, grid=GRID):
    """Publish the example entry of a number."""
    records = {"attributes": {}, "quality": {"number": number}, "provenance": {"pid": os.getpid()}}
    return Store(store, n_threads=2).publish(key_of(number=number), example_layers(number, grid), grid=grid, **records)


def digest_of(entry):
    """Read everything in an entry and return the digest of it."""
    digest = hashlib.sha256()
    for name in entry.layers:
        digest.update(entry.read(name).tobytes())
    return digest.hexdigest()


def publish_when_told(store, number, connection):
    """Say ready, wait for a word, publish, and send the outcome and the manifest's digest."""
    connection.send("ready")
    connection.recv()
    entry, outcome = publish(store, number)
    connection.send((outcome, entry.manifest_digest))


def publish_until(store, number, fatal_step):
    """Publish, killing this process at its n-th step that touches the file system."""
    steps = 0

    def count(event, args):
        nonlocal steps
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.utime", "os.listdir"):
            steps += 1
            if steps == fatal_step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    publish(store, number)


def described(error):
    """Return an error as (type names, message), which any process can read."""
    return [kind.__name__ for kind in type(error).__mro__], str(error)


def publish_under_limits(limits, store, number, connection):
    """Publish with resource limits set; send the error as (type names, message), or None."""
    for name, value in limits.items():
        if name == "RLIMIT_AS":
            publish(store + "-warm", number)
            with open("/proc/self/statm") as file:
                value += int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(getattr(resource, name), (value, value))
    try:
        publish(store, number)
    except BaseException as error:
        connection.send(described(error))
    else:
        connection.send(None)


def publish_as(uid, umask, store, number, connection):
    """Publish as another user, then read entry 0; send for each the error as (type names, message), or what it gave."""
    os.umask(umask)
    if uid is not None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    for attempt in (lambda: publish(store, number)[1], lambda: digest_of(Store(store).find(key_of(number=0)))):
        try:
            connection.send(attempt())
        except OSError as error:
            connection.send(described(error))


def publish_many(store, numbers, n_rounds):
    """Publish and discard entries over and over."""
    for i in range(n_rounds):
        for number in numbers:
            if i:
                Store(store).discard(key_of(number=number))
            publish(store, number)


def watch(store, numbers, connection):
    """Look for entries until told to stop; send how often they were absent, whole, gone while read, or wrong."""
    seen = {"absent": 0, "whole": 0, "gone": 0, "damaged": []}
    expected = dict.fromkeys(numbers)
    while not connection.poll():
        for number in numbers:
            try:
                entry = Store(store).find(key_of(number=number))
            except FormatError as error:
                seen["damaged"].append(f"find: {error}")
                continue
            if entry is None:
                seen["absent"] += 1
                continue
            try:
                digest = digest_of(entry)
            except FormatError as error:
                is_gone = "missing" in str(error)
                seen["gone"] += is_gone
                if not is_gone:
                    seen["damaged"].append(f"read: {error}")
                continue
            expected[number] = expected[number] or digest
            if digest == expected[number]:
                seen["whole"] += 1
            else:
                seen["damaged"].append(f"read {digest}, before {expected[number]}")
    connection.send((seen, expected))


def publish_and_discard(store, n_rounds):
    """Publish small entries and discard them, again and again."""
    grid = Grid((3, 10, 9), (3.0, 1.0, 1.0))
    for _ in range(n_rounds):
        for number in range(5):
            publish(store, number, grid)
        for number in range(5):
            Store(store).discard(key_of(number=number))
