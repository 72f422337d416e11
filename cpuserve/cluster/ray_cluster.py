"""Connects to Ray, and places servers on its nodes as actors that keep them."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

from cpuserve.cluster.placement import ClusterServers, ServerPlace, numa_nodes_here
from cpuserve.cluster.registry_server import RegistryServer
from cpuserve.cluster.server_keeper import KeptServer, ServerKeeper, ServerSpec, server_environment
from cpuserve.errors import CpuserveError, MissingExtra, UsageError

__all__ = [
    "NAMESPACE",
    "ClusterKeeper",
    "RayPlacement",
    "connected",
    "find_keeper",
    "ray_module",
    "start_keeper",
]
__all__ += ["on_node", "stop_servers"]

NAMESPACE = "cpuserve"
_KEEPER = "cpuserve-keeper"
_SERVER = "cpuserve-server-"
_HEAD = {"node:__internal_head__": 0.001}  # the node without which there is no cluster
_LOOK_S = 1.0
_CONNECT_S = 5.0
_ADDRESS = re.compile(r"(?:ray://)?\[?([^\[\]/]+)\]?:([0-9]{1,5})")
_ANSWER_S = 5.0
_STOP_S = 90.0


def ray_module() -> Any:
    """Ray.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import ray  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise MissingExtra("this needs Ray", "ray") from error
    return ray


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster while the context lasts.

    Args:
        address: of the cluster, ``HOST:PORT`` or ``ray://HOST:PORT``; None for the one of this machine.

    Raises:
        MissingExtra: Ray is not installed.
        CpuserveError: there is no cluster.
    """
    ray = ray_module()
    _check(address)
    try:
        ray.init(
            address=address or "auto",
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level="ERROR",
            configure_logging=True,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise _no_cluster(address, lines[0]) from error
    try:
        with redirect_stdout(
            sys.stderr
        ):  # Ray prints what happens to nodes, and standard output is for results
            yield ray
    finally:
        ray.shutdown()


def _check(address: str | None) -> None:
    """Refuse an address where nobody listens, which Ray itself would try for minutes.

    Raises:
        UsageError: it is none.
        CpuserveError: nobody listens there.
    """
    if address in (None, "auto", "local"):
        return
    found = _ADDRESS.fullmatch(address or "")
    if found is None or not 0 < int(found[2]) < 1 << 16:
        raise UsageError(f"{address!r} is no address of a Ray cluster: HOST:PORT, or ray://HOST:PORT")
    try:
        socket.create_connection((found[1], int(found[2])), timeout=_CONNECT_S).close()
    except OSError as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str | None, reason: str) -> CpuserveError:
    return CpuserveError(
        f"no Ray cluster at {address or 'this machine'} ({reason}): `ray start --head` starts one, "
        "--ray HOST:PORT names another"
    )


def on_node(node_id: str) -> dict[str, Any]:
    """The options that put a task or an actor on a node, and nowhere else."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False), "num_cpus": 0}


class ServerActor:
    """A Ray actor that keeps the server of a place."""

    def __init__(self, spec: ServerSpec, where: ServerPlace) -> None:
        environ = server_environment(os.environ)
        self._keeper = ServerKeeper(spec, where.address, where.numa_node, where.place, environ)

    def status(self) -> KeptServer:
        """What is known of the server."""
        return self._keeper.status()

    def stop(self) -> None:
        """End the server."""
        self._keeper.stop()


class RayPlacement:
    """Places servers by Ray; see `ServerPlacement`.

    Args:
        spec: what every server is started with.
    """

    def __init__(self, spec: ServerSpec) -> None:
        self._ray, self._spec = ray_module(), spec
        self._actors: dict[ServerPlace, Any] = {}

    def nodes(self) -> Mapping[str, str]:
        """See `ServerPlacement.nodes`."""
        return {node["NodeID"]: node["NodeManagerAddress"] for node in self._ray.nodes() if node["Alive"]}

    def numa_nodes(self, node_id: str) -> Sequence[int | None]:
        """See `ServerPlacement.numa_nodes`."""
        task = self._ray.remote(numa_nodes_here).options(**on_node(node_id))
        try:
            found: list[int | None] = self._ray.get(task.remote(), timeout=_ANSWER_S * 4)
        except self._ray.exceptions.RayError:
            return []
        return found

    def ensure(self, where: ServerPlace) -> Any:
        """See `ServerPlacement.ensure`."""
        if where not in self._actors:
            self._actors[where] = (
                self._ray.remote(ServerActor)
                .options(
                    name=f"{_SERVER}{where.node_id}-{where.numa_node}",
                    namespace=NAMESPACE,
                    get_if_exists=True,
                    lifetime="detached",
                    max_restarts=-1,
                    max_concurrency=2,
                    **on_node(where.node_id),
                )
                .remote(self._spec, where)
            )
        return self._actors[where]

    def ask(self, server: Any) -> KeptServer | None:
        """See `ServerPlacement.ask`."""
        try:
            found: KeptServer = self._ray.get(server.status.remote(), timeout=_ANSWER_S)
        except self._ray.exceptions.RayActorError:  # it starts again, or was ended for good
            self._actors = {where: one for where, one in self._actors.items() if one is not server}
            return None
        except self._ray.exceptions.RayError:
            return None
        return found

    def forget(self, server: Any) -> None:
        """See `ServerPlacement.forget`."""
        self._actors = {where: one for where, one in self._actors.items() if one is not server}
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(server)


class ClusterKeeper:
    """The Ray actor that keeps a cluster's servers, and answers with their list.

    Args:
        spec: what every server is started with.
        port: of the registry; 0 takes a free one.
    """

    def __init__(self, spec: ServerSpec, port: int) -> None:
        host = ray_module().util.get_node_ip_address()
        self._spec = spec
        self._servers = ClusterServers(RayPlacement(spec))
        self._registry = RegistryServer(host, port, self.status)
        threading.Thread(target=self._keep, name="reconcile", daemon=True).start()

    def status(self) -> dict[str, Any]:
        """What ``cluster status --json`` prints."""
        return {"registry": self._registry.url, "endpoints": self._servers.rows()}

    def spec(self) -> ServerSpec:
        """What every server is started with."""
        return self._spec

    def _keep(self) -> None:
        errors = ray_module().exceptions.RayError
        while True:
            with suppress(errors, ConnectionError):  # of a node that is about to go; the next look sees more
                self._servers.reconcile()
            time.sleep(_LOOK_S)


def find_keeper(ray: Any) -> Any | None:
    """The keeper of a cluster; None where none is up."""
    try:
        return ray.get_actor(_KEEPER, namespace=NAMESPACE)
    except ValueError:
        return None


def start_keeper(ray: Any, spec: ServerSpec, registry_port: int) -> Any:
    """Start the keeper of a cluster, which stays when this process ends."""
    options = {"name": _KEEPER, "namespace": NAMESPACE, "lifetime": "detached", "resources": _HEAD}
    keeper = ray.remote(ClusterKeeper).options(num_cpus=0, max_restarts=-1, max_concurrency=4, **options)
    return keeper.remote(spec, registry_port)


def stop_servers(ray: Any) -> int:
    """End the keeper, then let all servers finish their requests and end them.

    Returns:
        How many servers there were.
    """
    keeper = find_keeper(ray)
    if keeper is not None:
        ray.kill(keeper)  # first, or it would start them again
    named = ray.util.list_named_actors(all_namespaces=True)
    names = [
        one["name"] for one in named if one["namespace"] == NAMESPACE and one["name"].startswith(_SERVER)
    ]
    actors = []
    for name in names:
        with suppress(ValueError):  # it has ended meanwhile
            actors.append(ray.get_actor(name, namespace=NAMESPACE))
    stops = [actor.stop.remote() for actor in actors]
    ray.wait(stops, num_returns=len(stops), timeout=_STOP_S) if stops else None
    for actor in actors:
        ray.kill(actor)
    return len(actors)
