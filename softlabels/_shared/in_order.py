"""Work in threads whose results come in order, with only a few of them in memory."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_in_order(pool: Executor, function: Callable[[T], R], items: Iterable[T], n_threads: int) -> Iterator[R]:
    """Yield function(item) in order; at most two results per thread are computed before they are wanted.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as pool:
    ...     list(map_in_order(pool, abs, [-3, -1, -2], 2))
    [3, 1, 2]
    """
    left = iter(items)
    pending: deque[Future[R]] = deque()
    for item in itertools.islice(left, 2 * n_threads):
        pending.append(pool.submit(function, item))
    while pending:
        result = pending.popleft().result()
        for item in itertools.islice(left, 1):
            pending.append(pool.submit(function, item))
        yield result
