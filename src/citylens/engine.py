"""Spreads work in two ways: a map over shards, whose results come back in the order of the shards; and, for a training on Ray, one
function on all workers at once.

The setting `engine.kind` says where shards run: threads of this process (`local`), processes of this machine, or tasks of a Ray
cluster. The results of a map do not depend on it, since a shard's result depends on the shard alone. Each worker opens its own inputs,
by paths relative to the project's folder: on a cluster all machines see that folder at one path.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psutil

from citylens.errors import InputError
from citylens.io import pools
from citylens.settings.schema import Engine

Shard = TypeVar("Shard")
Result = TypeVar("Result")

AHEAD = 2
"""How many more results per worker may be computed before the caller takes them, so that memory does not grow with the shards."""
RETRIES = 8
"""How often Ray repeats a shard whose worker or machine went away."""
ANSWER = 10
"""Seconds within which a cluster answers."""
PATIENCE = 300
"""Seconds to wait for a result that is computed but does not come. Ray itself waits for ever if the store and the disk are full."""
STORE = 512 << 20
"""Bytes of the object store of a cluster that ends with the map."""
SMALL = 64 << 10
"""Bytes that travel with each shard. More goes once into the cluster's object store."""

_works: dict[str, Callable[[Any], Any] | Exception] = {}  # in a worker: the function of each map, or why there is none


def map_shards(
    start: Callable[..., Callable[[Shard], Result]],
    given: tuple[Any, ...],
    shards: Sequence[Shard],
    plan: Engine,
    *,
    memory: int = 0,
    network: bool = False,
) -> Iterator[Result]:
    """Yield `start(*given)(shard)` for each shard, in order.

    Args:
        start: a function of a module. It is called once per worker; several threads may call what it returns at a time.
        given: what `start` needs.
        shards: small values, such as slices.
        memory: bytes that a worker needs; there are fewer workers where memory is short.
        network: a network computes, on the GPU where there is one. Then one worker of this machine is enough.

    Raises:
        InputError: a shard's own; a worker was killed; or the cluster cannot be reached or went away.
    """
    if plan.kind == "ray":
        yield from _on_ray(start, given, shards, plan, plan.gpus_per_worker if network else 0, memory)
        return
    workers = max(1, min(plan.workers or os.cpu_count() or 1, len(shards)))
    workers = max(1, min(workers, psutil.virtual_memory().available // memory)) if memory else workers
    workers = 1 if network and _gpu() else workers
    if plan.kind == "local":
        compute = start(*given)
        with ThreadPoolExecutor(workers) as threads:
            yield from _in_order(shards, lambda shard: threads.submit(compute, shard).result, workers)
        return
    try:
        with pools.pool(workers, _begin, ("", start, given)) as processes:
            yield from _in_order(shards, lambda shard: processes.submit(_next, "", shard).result, workers)
    except BrokenProcessPool:
        said = f"a worker process was killed, maybe because memory ran out; there were {workers}"
        raise InputError(f"engine.kind: processes: {said}; allowed: fewer, by engine.workers") from None


def _in_order(shards: Sequence[Any], submit: Callable[[Any], Callable[[], Any]], workers: int) -> Iterator[Any]:
    """Yield the results in order, with some shards at work ahead."""
    left, waiting = iter(shards), deque[Callable[[], Any]]()
    while True:
        waiting.extend(map(submit, islice(left, 1 + AHEAD * workers - len(waiting))))
        if not waiting:
            return
        yield waiting.popleft()()


def _begin(name: str, start: Callable[..., Any], given: tuple[Any, ...]) -> None:
    try:
        _works[name] = start(*given)
    except Exception as error:
        _works[name] = error


def _next(name: str, shard: Any) -> Any:
    work = _works[name]
    if isinstance(work, Exception):
        raise work
    return work(shard)


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _on_ray(
    start: Callable[..., Any], given: tuple[Any, ...], shards: Sequence[Any], plan: Engine, gpus: float, memory: int
) -> Iterator[Any]:
    """Yield the results of tasks on a cluster, in order. Ray repeats a task whose worker or machine goes away."""
    with cluster(plan, plan.workers) as ray:
        name, folder, machines = secrets.token_hex(8), Path.cwd(), _machines(ray)
        if not _room(machines, 1, gpus):
            raise InputError(_too_little(machines, f"engine.gpus_per_worker: {gpus:g}"))
        memory = int(min(memory, *(machine.get("memory", 0) // 2 for machine in machines)))
        common: Any = (start, given)
        if len(ray.cloudpickle.dumps(common)) > SMALL:
            common = ray.put(common)

        @ray.remote(num_cpus=1, num_gpus=gpus, memory=memory or None, max_retries=RETRIES)  # type: ignore[untyped-decorator]
        def task(common: Any, shard: Any) -> Any:
            return _next_there(name, folder, common, shard)

        workers = plan.workers or _room(machines, 1, gpus)

        def submit(shard: Any) -> Callable[[], Any]:
            reference = task.remote(common, shard)
            return lambda: _taken(ray, reference, plan.address)

        yield from _in_order(shards, submit, workers)


def _next_there(name: str, folder: Path, common: tuple[Any, ...], shard: Any) -> Any:
    """Do a shard in a process of the cluster, which does many of a map.

    It must be a function of this module: Ray copies a nested one with the globals that it names, and such a `_works` stays empty.

    Raises:
        InputError: the shard's own, or the machine lacks the project's folder.
    """
    if name not in _works:
        try:
            os.chdir(folder)
        except OSError as error:
            said = f"{error.strerror} on a machine of the cluster; allowed: a folder that all machines see at one path"
            raise InputError(f"{folder}: {said}") from None
        _works.clear()
        _begin(name, *common)
    return _next(name, shard)


def _machines(ray: Any) -> list[dict[str, float]]:
    """Return the resources of each machine of a cluster that can work."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]


def _room(machines: Sequence[dict[str, float]], cores: int, gpus: float) -> int:
    """Return how many workers of so many cores and GPUs the machines have room for."""
    return sum(
        int(min(machine["CPU"] // cores, machine.get("GPU", 0) // gpus if gpus else machine["CPU"]))
        for machine in machines
    )


def _too_little(machines: Sequence[dict[str, float]], what: str) -> str:
    """Return what is said of work that would wait forever."""
    has = "; ".join(f"{machine['CPU']:g} cores, {machine.get('GPU', 0):g} GPUs" for machine in machines) or "none"
    return f"{what}: the cluster has no room for it; its machines: {has}"


def _taken(ray: Any, reference: Any, address: str) -> Any:
    """Return a task's result.

    Before each wait this asks whether the head is there. Without it, Ray would end this process.
    """
    waited = 0
    while waited < PATIENCE:
        _knock(_head(ray, address))
        with suppress(ray.exceptions.GetTimeoutError):
            return ray.get(reference, timeout=ANSWER)
        made, _ = ray.wait([reference], timeout=1, fetch_local=False)
        waited += ANSWER * len(made)
    raise ray.exceptions.ObjectStoreFullError("a result does not come: the object store and the disk are full")


def _head(ray: Any, address: str) -> str:
    return address if address.startswith("ray://") else str(ray.get_runtime_context().gcs_address)


def _knock(address: str) -> None:
    """Ask a head whether it is there.

    Raises:
        OSError: it is not.
    """
    where = urlsplit(address if "//" in address else f"//{address}")
    try:
        port = where.port or 6379
    except ValueError:
        raise InputError(f"engine.address: {address}: allowed: HOST:PORT with a port of 1 to 65535") from None
    socket.create_connection((where.hostname or "", port), ANSWER).close()


def run_together(work: Callable[..., None], given: tuple[Any, ...], plan: Engine) -> Iterator[Any]:
    """Run `work(send, *given)` on all workers of a Ray cluster at once, as one torch process group; yield what they send.

    When a worker goes away, Ray ends the others and starts all of them anew, so `work` goes on from what it saved. On a cluster of
    its own one worker has as many threads as a stage on one machine has; on another, the workers share its cores.

    A process of its own speaks with the cluster, because Ray sometimes ends that process when the cluster goes away.

    Raises:
        InputError: a worker's own; a worker failed in another way; or the cluster cannot be reached, has too little room or went away.
    """
    try:
        yield from pools.streamed(_together, (work, given, plan))
    except EOFError:
        raise _failed(plan, "Ray ended the process that spoke with the cluster") from None


def _together(work: Callable[..., None], given: tuple[Any, ...], plan: Engine) -> Iterator[Any]:
    import torch

    if plan.address.startswith("ray://"):
        raise InputError(
            f"engine.address: {plan.address}: a training does not work from outside; allowed: HOST:PORT, auto, local"
        )
    with cluster(plan, max(plan.workers or 1, torch.get_num_threads())) as ray:
        from ray.train.torch import TorchTrainer
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        sent, folder = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here}), Path.cwd()
        threads, options = _scaling(ray, plan)

        def each() -> None:
            os.chdir(folder)
            torch.set_num_threads(threads)
            try:
                work(sent.put, *given)
            except InputError as error:  # Raised here, it would come again in each of Ray's new starts.
                sent.put(error)

        head = _head(ray, plan.address)
        yield from _sent_until_the_end(TorchTrainer(each, **options), sent, head)


def _scaling(ray: Any, plan: Engine) -> tuple[int, dict[str, Any]]:
    """Return how many threads each worker of a training has, and the options of Ray's trainer."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    machines, gpus = _machines(ray), plan.gpus_per_worker
    if gpus % 1:
        raise InputError(f"engine.gpus_per_worker: {gpus:g}; allowed: whole numbers, where a training runs on Ray")
    workers = plan.workers or max(1, _room(machines, 1, gpus) if gpus else len(machines))
    # The most threads of which there is room for all workers.
    choices = range(int(max((machine["CPU"] for machine in machines), default=0)), 0, -1)
    threads = next((cores for cores in choices if _room(machines, cores, gpus) >= workers), 0)
    if not threads:
        raise InputError(_too_little(machines, f"engine.workers: {workers}, engine.gpus_per_worker: {gpus:g}"))
    resources = {"CPU": threads} | ({"GPU": gpus} if gpus else {})
    return threads, {
        "scaling_config": ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources),
        "run_config": RunConfig(
            name=secrets.token_hex(8),
            storage_path=str(Path.cwd() / ".citylens" / "ray"),
            failure_config=FailureConfig(max_failures=RETRIES),
        ),
    }


def _sent_until_the_end(trainer: Any, sent: Any, head: str) -> Iterator[Any]:
    """Train, and meanwhile yield what the workers put into the queue `sent`; raise what they raise.

    While it waits it asks whether the head is there, as `_taken` does.
    """
    from ray.train.v2.api.exceptions import TrainingFailedError
    from ray.util.queue import Empty

    ended: Future[Any] = Future()

    def fit() -> None:
        try:
            ended.set_result(trainer.fit())
        except Exception as error:
            ended.set_exception(error)

    Thread(target=fit, daemon=True).start()
    while True:
        over = ended.done()  # asked before the queue is, so that nothing sent before the end is missed
        _knock(head)
        try:
            message = sent.get(timeout=0.5)
        except Empty:
            if not over:
                continue
            try:
                ended.result()
            except TrainingFailedError as error:
                reason = [line for line in str(error).splitlines() if line.strip()][-1].strip()
                raise InputError(f"engine: the training failed on its workers: {reason}") from None
            return
        if isinstance(message, InputError):
            raise message
        yield message


@contextmanager
def cluster(plan: Engine, cores: int | None) -> Iterator[Any]:
    """Yield the module `ray`, connected to the cluster of `engine.address`; one that ends with the block has so many cores.

    Raises:
        InputError: Ray is not installed, the cluster cannot be reached, or it goes away; or the error of a task, as it was raised there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's workers would wait for all other processes of the machine
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # no GPU for a worker that asks for none
    try:
        import ray
    except ImportError:
        raise InputError("engine.kind: ray: Ray is not installed; `pip install 'citylens[ray]'`") from None
    own: dict[str, Any] = {"num_cpus": cores, "object_store_memory": STORE, "include_dashboard": False}
    options = own | {"_node_ip_address": "127.0.0.1"} if plan.address == "local" else {}
    gone = False
    try:
        if plan.address not in ("local", "auto"):  # Ray itself would wait for an hour.
            _knock(plan.address)
        try:
            ray.init(address=plan.address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (
            RuntimeError,
            ValueError,
        ) as error:  # another version of Ray or Python; this machine is not in the cluster
            raise _failed(plan, str(error)) from None
        yield ray
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ray.exceptions.RayError):
            raise _failed(plan, str(error.cause)) from None
        raise error.cause from None
    except (ray.exceptions.RayError, OSError) as error:
        gone = isinstance(error, OSError)
        raise _failed(plan, str(error).strip() or type(error).__name__) from None
    finally:
        if not gone:  # Without a head, `shutdown` waits for a minute and then ends this process.
            ray.shutdown()


def _failed(plan: Engine, said: str) -> InputError:
    first = said.splitlines()[0]
    return InputError(f"engine.address: {plan.address}: {first}; the same command goes on with a cluster that works")
