"""Calls in processes of their own by joblib's loky, which are the caller's to end: a Ctrl-C is not theirs to answer.

A terminal sends Ctrl-C to every process in its foreground. One that is still importing answers with a traceback, and
one at work with another; so they are born with the signal blocked and ignore it from their first call on.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

__all__ = ["born_deaf", "in_processes"]

Result = TypeVar("Result")


def in_processes(
    function: Callable[..., Result],
    calls: Iterable[tuple[Any, ...]],
    *,
    n_jobs: int,
    ordered: bool = False,
    threads: int | None = None,
) -> Iterator[Result]:
    """Call a function with each tuple of arguments, `n_jobs` at a time, and give each result as it comes.

    Parameters
    ----------
    function : callable
        Of a module, so that a process can import it.
    calls : iterable of tuple
        The arguments of each call.
    n_jobs : int
        Processes, as joblib counts.
    ordered : bool
        Give the results in the order of the calls.
    threads : int, optional
        What BLAS and OpenMP may start in each process; joblib's share of the processors by default.

    Raises
    ------
    joblib.externals.loky.process_executor.TerminatedWorkerError
        Where one of the processes was ended from outside.
    """
    from joblib import Parallel, delayed, parallel_config

    return_as = "generator" if ordered else "generator_unordered"
    with parallel_config(backend="loky", n_jobs=n_jobs, inner_max_num_threads=threads):
        parallel = Parallel(return_as=return_as)
    results: Any = None
    _let_it_end()
    try:
        with born_deaf():
            results = parallel(delayed(_deaf)(function, call) for call in calls)
        for result in results:  # noqa: UP028 - `yield from` would close what it waits for by itself
            yield result
    finally:
        if results is not None:
            with warnings.catch_warnings():  # that calls are left undone is what the caller wants
                warnings.filterwarnings("ignore", ".*have been cancelled", UserWarning)
                results.close()


@contextlib.contextmanager
def born_deaf() -> Iterator[None]:
    """Let the processes that are started meanwhile be deaf to Ctrl-C.

    One that comes meanwhile waits. Blocked in this thread it is taken by any other there is (whoever reports progress),
    so it is noted there and raised in the end; ignored it would be lost. SIGTERM waits as well, for a process that is
    left half started says so in a traceback; but they hear it as ever.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    _start_trackers()
    came: list[int] = []
    held = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not None]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in held}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for one in came:
            signal.raise_signal(one)


def _start_trackers() -> None:
    """Start what joblib's and Python's processes share: Python 3.11 unblocks Ctrl-C here after it has started its own."""
    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as of_loky

    resource_tracker.ensure_running()
    of_loky.ensure_running()


@functools.cache
def _let_it_end() -> None:
    """Let loky's manager end as it should where it is closed while a call is queued.

    Closing clears the list of calls, and the manager, which looks in it for those that are queued still, died of that one
    (joblib 1.6: a KeyError and its traceback, and semaphores that nobody gave back).
    """
    from joblib.externals.loky.process_executor import _ExecutorManagerThread as Manager

    queued = Manager.add_call_item_to_queue

    def add_call_item_to_queue(manager: Any) -> None:
        try:
            queued(manager)
        except KeyError:
            if not manager.is_shutting_down():
                raise

    Manager.add_call_item_to_queue = add_call_item_to_queue


def _deaf(function: Callable[..., Result], call: tuple[Any, ...]) -> Result:
    """Make one call in a process of joblib's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return function(*call)
