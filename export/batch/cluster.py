"""A job on a cluster of Dask: the blocks are the tasks, and this process keeps the journal.

Not yet run on GPUs; an engine takes the first device that its worker sees, as dask-cuda's workers each see
another one first.
"""

import logging
import re
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from distributed import Client, KilledWorker, LocalCluster, as_completed
from distributed.comm.core import CommClosedError

from eigenfeatures.eigen.errors import InputError
from eigenfeatures.export.batch.clock import Clock
from eigenfeatures.export.batch.job import Survey
from eigenfeatures.export.batch.machine import core_count
from eigenfeatures.export.batch.options import Options
from eigenfeatures.export.batch.plan import WORKER_BLOCKS, Part
from eigenfeatures.export.batch.tasks import block_task, survey_task
from eigenfeatures.export.batch.watch import Watch
from eigenfeatures.export.batch.worker import Desk, Done, Order
from eigenfeatures.export.versions import difference, versions

# Seconds in which a scheduler must answer, and then have a worker.
PATIENCE = 10


class Crew:
    """The workers of a cluster, with the model and the stacks of one job.

    Parameters
    ----------
    client
        Of a scheduler that has workers.
    model, stacks, options
        Of the job.
    clock
        Gets what the workers measure.
    say
        Tells a person what happens.

    Attributes
    ----------
    options : Options
        With the number of threads: by default each worker's equal share of its machine's cores.
    """

    def __init__(
        self,
        client: Any,
        model: Path,
        stacks: Sequence[Path],
        options: Options,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self._client, self._clock, self._say = client, clock, say
        self._token = secrets.token_hex(4)
        cores, self._share = _machines(client)
        self.options = replace(options, threads=options.threads or max(1, cores // self._share))
        self._name = f"eigenfeatures-{self._token}"
        try:
            client.register_plugin(Watch(client.id, self._name), name=self._name)
        except (ImportError, AttributeError) as error:
            raise _without_us(f"the scheduler at {client.scheduler.address}", error) from error
        desk = Desk(model.absolute(), [stack.absolute() for stack in stacks], self.options)
        client.register_plugin(desk, name=self._name)

    def survey(self) -> Survey:
        """Let a worker run one slice and plan the blocks."""
        future = self._client.submit(
            survey_task, self._name, self._share, key=f"infer-survey-{self._token}", pure=False
        )
        found: Survey
        found, said = _result(future, "the first slice")
        for line in said:
            self._say(line)
        workers = len(self._client.nthreads())
        self._say(
            f"{_count(workers, 'worker')}, each computing with {_count(self.options.threads, 'thread')}"
        )
        return found

    def compute(
        self, order: Order, parts: Iterable[Part], names: Sequence[str], note: Callable[[int, str], None]
    ) -> Generator[Part, None, None]:
        """Let the workers do blocks, and yield each when it is done, in any order.

        No more tasks exist at once than keep the workers busy, however many blocks there are.

        Parameters
        ----------
        order
            The job.
        parts
            The blocks.
        names
            Of the stacks, for the tasks' names.
        note
            Gets a block's number and the SHA-256 of its file, to enter it in the journal.
        """
        waiting, ordered = iter(parts), order.to_text()
        running: dict[Any, Part] = {}
        finished: Any = as_completed([], loop=self._client.loop)  # type: ignore[no-untyped-call]

        def fill() -> None:
            for part in islice(waiting, max(0, self._room() - len(running))):
                stack = names[part.stack].replace("/", ".")
                key = f"infer-{stack}-block-{part.number:06d}-{self._token}"
                future = self._client.submit(
                    block_task, self._name, ordered, *part, key=key, pure=False, retries=1
                )
                running[future] = part
                finished.add(future)

        try:
            fill()
            for future in finished:
                part = running.pop(future)
                done: Done = _result(future, f"block {part.number}")
                note(part.number, done.digest)
                self._clock.add(done.seconds)
                for line in done.said:
                    self._say(line)
                yield part
                fill()
        finally:
            with suppress(OSError):
                self._client.cancel(list(running))

    def close(self) -> None:
        """Let the workers write the blocks in hand and close the job."""
        # A scheduler that is lost has no workers; one that had lost this process has closed the job itself.
        with suppress(OSError, ValueError):
            self._client.unregister_worker_plugin(self._name)
            self._client.unregister_scheduler_plugin(self._name)

    def _room(self) -> int:
        """Return how many tasks to have: what each worker's threads can do, and another one for each."""
        threads: dict[str, int] = self._client.nthreads()
        return max(2, sum(min(count, WORKER_BLOCKS) + 1 for count in threads.values()))


@contextmanager
def open_crew(
    model: Path, stacks: Sequence[Path], options: Options, clock: Clock, say: Callable[[str], None]
) -> Iterator[Crew]:
    """Start or reach the cluster that the options name, and give it a job's model and stacks.

    Raises
    ------
    InputError
        When there is no such cluster, it has no worker or one that differs, or is lost meanwhile.
    """
    with ExitStack() as opened:
        client = opened.enter_context(_reach(options.cluster or "", say))
        try:
            crew = Crew(client, model, stacks, options, clock, say)
            opened.callback(crew.close)
            yield crew
        except (CancelledError, CommClosedError, TimeoutError) as error:
            raise InputError(
                f"--cluster {options.cluster}: the scheduler is lost; start it again and go on with --resume"
            ) from error


@contextmanager
def _reach(address: str, say: Callable[[str], None]) -> Iterator[Any]:
    local = re.fullmatch(r"local:([1-9]\d{0,3})", address)
    if not local and not re.fullmatch(r"(tcp|tls)://[^/\s]+:\d+", address):
        raise InputError(f"--cluster {address!r} is no cluster; give local:N or tcp://host:port")
    with ExitStack() as opened:
        where: Any = address
        if local:
            where = opened.enter_context(_local(int(local[1])))
        client = opened.enter_context(_client(where, address))
        if local and client.dashboard_link:
            say(f"dashboard at {client.dashboard_link}")
        yield client


@contextmanager
def _client(where: Any, address: str) -> Iterator[Any]:
    try:
        client: Any = Client(where, timeout=PATIENCE, set_as_default=False)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise InputError(
            f"--cluster {address}: no scheduler answers in {PATIENCE} s; check the address and the network"
        ) from error
    except (ValueError, TypeError) as error:  # what Dask makes no address of, or TLS without its certificates
        raise InputError(
            f"--cluster {address} can't be used ({_first_line(error)}); give tcp://host:port, "
            "or tls://host:port with Dask's TLS configured"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise InputError(f"--cluster {address} has no worker; start some by 'dask worker'") from error
        yield client


@contextmanager
def _local(workers: int) -> Iterator[Any]:
    """Start processes on this machine, each of as many threads as it may have blocks in hand."""
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=workers,
        threads_per_worker=WORKER_BLOCKS,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=0,  # the plan of the blocks sees to it
        preload=["eigenfeatures.export.batch.worker"],
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster


def _machines(client: Any) -> tuple[int, int]:
    """Return cores and workers of the machine that has the fewest cores for a worker."""
    found = client.run(_describe_worker, on_error="return")
    ours = versions()
    for address, answer in found.items():
        if isinstance(answer, OSError):
            raise InputError(
                f"the worker at {address} was lost ({_first_line(answer)}); start again with the others"
            )
        if isinstance(answer, Exception):
            raise _without_us(f"the worker at {address}", answer)
    for host, _, theirs in found.values():
        if differing := difference(theirs, ours):
            name, there, here = differing
            raise InputError(
                f"the worker on {host} has {name} {there}, and this machine {here}; install the same versions"
            )
    workers = Counter(host for host, _, _ in found.values())
    cores = {host: count for host, count, _ in found.values()}
    host = min(cores, key=lambda name: cores[name] / workers[name])
    return cores[host], workers[host]


def _describe_worker() -> tuple[str, int, dict[str, str]]:
    return socket.gethostname(), core_count(), versions()


def _without_us(where: str, error: Exception) -> InputError:
    """Return what to say of a machine that can't load what it is sent."""
    return InputError(
        f"{where} can't load eigenfeatures ({_first_line(error)}); install the same versions there"
    )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _count(number: int | None, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _result(future: Any, what: str) -> Any:
    try:
        return future.result()
    except KilledWorker as error:
        raise InputError(
            f"{what} ended several workers, perhaps for want of memory; start again with a smaller "
            "--max-memory in another folder"
        ) from error
