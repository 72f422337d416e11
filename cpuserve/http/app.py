"""The application of one worker: the table of all routes, and Flask, which finds the handler of a call.

The two routes that infer most are matched ahead of Flask and answered by the same handlers.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flask
from werkzeug.exceptions import HTTPException

from cpuserve.protocols.access import Access
from cpuserve.protocols.admin import Admin
from cpuserve.protocols.call import Call, Handler, Reply, answer, json_reply
from cpuserve.protocols.deepdetect import DeepDetect
from cpuserve.protocols.deepdetect_names import DeepDetectNames
from cpuserve.protocols.deepstack import DeepStack
from cpuserve.protocols.page import Page
from cpuserve.protocols.predictions import Predictions
from cpuserve.protocols.repository import RepositoryRoutes
from cpuserve.protocols.shadow import ShadowRoutes
from cpuserve.protocols.shared_memory import SharedMemory, SharedMemoryRoutes
from cpuserve.protocols.statistics import StatisticsRoutes
from cpuserve.protocols.tfs import TensorFlowServing
from cpuserve.protocols.v2 import V2
from cpuserve.serving.log import LogSwitches
from cpuserve.serving.pool import Pool
from cpuserve.serving.trace_ring import TraceRing
from cpuserve.serving.worker_table import WorkerTable

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = [
    "Application",
    "Route",
    "deepdetect_routes",
    "deepstack_routes",
    "routes",
    "shared_memory_routes",
]

_CALL = "cpuserve.call"
_UNSUPPORTED = re.compile(
    r"/v2/((system|cuda|xpu)sharedmemory|models/[^/]+/trace)(/|$)"
    r"|/v1/models/[^/]+(/versions/[^/]+|/labels/[^/]+)?:(classify|regress|explain)$"
)
_NO_EXAMPLES = "models here take tensors and pictures, no tf.Example: ask for :predict"
_WHY_UNSUPPORTED = {
    "systemsharedmemory": "shared memory is not supported without the setting shared_memory_prefix",
    "cudasharedmemory": "CUDA is not supported: register system shared memory, or send tensors",
    "classify": _NO_EXAMPLES,
    "regress": _NO_EXAMPLES,
    "explain": "answers are not explained here: name KServe's explainer in the InferenceService",
    "xpusharedmemory": "XPUs are not supported: register system shared memory, or send tensors",
}
_NO_MODEL_TRACES = "traces by model are not supported: /v2/trace/setting is for all models"


@dataclass(frozen=True)
class Route:
    """A path and what answers it.

    Attributes:
        method: "GET", "POST", "PUT" or "DELETE".
        rule: in Flask's syntax; the handler gets its variables in order.
        handler: what answers.
        changes: whether it changes the server, which pages of other sites may not.
    """

    method: str
    rule: str
    handler: Handler
    changes: bool = False


def routes(
    pool: Pool,
    worker_table: WorkerTable | None = None,
    switches: LogSwitches | None = None,
    trace_ring: TraceRing | None = None,
    shared_memory: SharedMemory | None = None,
) -> tuple[Route, ...]:
    """Every route of the server."""
    admin = Admin(worker_table, switches or LogSwitches("info"), trace_ring)
    v2, predictions, statistics = V2(pool, shared_memory), Predictions(pool), StatisticsRoutes(pool)
    tfs, page = TensorFlowServing(pool), Page()
    repository = RepositoryRoutes(pool)
    return (
        Route("POST", "/predictions/<model>", predictions.predict),
        Route("POST", "/predictions/<model>/<version>", predictions.predict),
        Route("GET", "/v2", v2.server),
        Route("GET", "/v2/placement", admin.placement),
        Route("GET", "/v2/logging", admin.logging),
        Route("POST", "/v2/logging", admin.logging, changes=True),
        Route("GET", "/v2/trace/setting", admin.trace_setting),
        Route("POST", "/v2/trace/setting", admin.trace_setting, changes=True),
        Route("GET", "/v2/trace/requests", admin.traces),
        Route("GET", "/v2/trace/requests/<name>", admin.trace),
        Route("GET", "/v2/health/live", v2.live),
        Route("GET", "/v2/health/ready", v2.ready),
        Route("GET", "/v2/models/stats", statistics.stats),
        Route("GET", "/v2/models/<model>", v2.metadata),
        Route("GET", "/v2/models/<model>/versions/<version>", v2.metadata),
        Route("GET", "/v2/models/<model>/ready", v2.model_ready),
        Route("GET", "/v2/models/<model>/versions/<version>/ready", v2.model_ready),
        Route("GET", "/v2/models/<model>/config", v2.config),
        Route("GET", "/v2/models/<model>/versions/<version>/config", v2.config),
        Route("GET", "/v2/models/<model>/stats", statistics.stats),
        Route("GET", "/v2/models/<model>/versions/<version>/stats", statistics.stats),
        Route("GET", "/v2/models/<model>/shadow", ShadowRoutes(pool).report),
        Route("GET", "/metrics", statistics.metrics),
        Route("POST", "/v2/repository/index", repository.index),
        Route("POST", "/v2/repository/models/<model>/load", repository.load, changes=True),
        Route("POST", "/v2/repository/models/<model>/unload", repository.unload, changes=True),
        Route("POST", "/v1/config/reload", repository.reload, changes=True),
        Route("GET", "/", page.page),
        Route("GET", "/page/<name>", page.part),
        Route("GET", "/openapi.yaml", page.yaml),
        Route("GET", "/openapi.json", page.json),
        Route("GET", "/ping", predictions.ping),
        Route("GET", "/v1/config", tfs.config),
        Route("GET", "/v1/models", tfs.list_models),
        Route("GET", "/v1/models/<model>", tfs.status),
        Route("GET", "/v1/models/<model>/versions/<version>", tfs.status),
        Route("GET", "/v1/models/<model>/metadata", tfs.metadata),
        Route("GET", "/v1/models/<model>/versions/<version>/metadata", tfs.metadata),
        Route("GET", "/v1/models/<model>/labels/<label>", tfs.by_label(tfs.status)),
        Route("GET", "/v1/models/<model>/labels/<label>/metadata", tfs.by_label(tfs.metadata)),
        Route("POST", "/v1/models/<model>/labels/<label>:predict", tfs.by_label(tfs.predict)),
        Route("POST", "/v1/models/<model>:predict", tfs.predict),
        Route("POST", "/v1/models/<model>/versions/<version>:predict", tfs.predict),
        Route("POST", "/v2/models/<model>/infer", v2.infer),
        Route("POST", "/v2/models/<model>/versions/<version>/infer", v2.infer),
    )


class Application:
    """Answers the calls of one worker.

    Attributes:
        pool: the worker's models.
        slow_paths: how the paths begin that wait for other processes and get a thread of their own.
    """

    slow_paths = ("/v2/repository/models/", "/v1/config/reload", "/v2/placement")

    def __init__(
        self,
        pool: Pool,
        worker_table: WorkerTable | None = None,
        access: Access | None = None,
        switches: LogSwitches | None = None,
        more: Sequence[Route] = (),
        trace_ring: TraceRing | None = None,
        shared_memory: SharedMemory | None = None,
    ) -> None:
        self.pool = pool
        self._access = access
        if shared_memory is not None:
            more = (*more, *shared_memory_routes(shared_memory))
        table = (*routes(pool, worker_table, switches, trace_ring, shared_memory), *more)
        by_rule = {route.rule: route.handler for route in table}
        self._predict = by_rule["/predictions/<model>"]
        self._infer = by_rule["/v2/models/<model>/infer"]
        self._flask = _flask_application(table, access or Access(None, None))

    def __call__(self, call: Call) -> Reply:
        """Answer one request, and free its body."""
        try:
            if self._access is not None:
                preflight = self._access.preflight(call)
                if preflight is not None:
                    return preflight
            if call.method == "POST":
                match call.path.split("/"):  # the hot paths: without a version
                    case ["", "predictions", model] if model:
                        return answer(self._predict, call, model)
                    case ["", "v2", "models", model, "infer"] if model:
                        return answer(self._infer, call, model)
            return self._by_flask(call)
        finally:
            call.drop_body()

    def _by_flask(self, call: Call) -> Reply:
        with self._flask.request_context(_environ(call)):
            response = self._flask.full_dispatch_request()
        headers = [(name, value) for name, value in response.headers if name != "Content-Length"]
        return Reply(response.status_code, response.get_data(), headers)

    @property
    def stopping(self) -> bool:
        """Whether the worker was told to end: it is not ready any more."""
        return self.pool.stopping

    @stopping.setter
    def stopping(self, value: bool) -> None:
        self.pool.stopping = value


def deepdetect_routes(pool: Pool, services: DeepDetectNames, root: Path) -> tuple[Route, ...]:
    """DeepDetect's routes, which are served when ``deepdetect_data_root`` is set."""
    calls = DeepDetect(pool, services, root)
    table = (
        ("GET", "/info", calls.info),
        ("PUT", "/services/<service>", calls.create),
        ("POST", "/services/<service>", calls.create),
        ("GET", "/services/<service>", calls.service),
        ("DELETE", "/services/<service>", calls.delete),
        ("POST", "/predict", calls.predict),
    )
    return tuple(
        Route(method, rule, calls.guarded(handler), changes=handler in (calls.create, calls.delete))
        for method, rule, handler in table
    )


def deepstack_routes(pool: Pool, model: str) -> tuple[Route, ...]:
    """DeepStack's route, which is served when ``deepstack`` names a model."""
    return (Route("POST", "/v1/vision/detection", DeepStack(pool, model).detect),)


def shared_memory_routes(shared_memory: SharedMemory) -> tuple[Route, ...]:
    """Triton's routes of system shared memory, which are served when ``shared_memory_prefix`` is set."""
    calls, path, cuda = SharedMemoryRoutes(shared_memory), "/v2/systemsharedmemory", "/v2/cudasharedmemory"
    return (
        Route("GET", f"{path}/status", calls.status),
        Route("GET", f"{path}/region/<name>/status", calls.status),
        Route("POST", f"{path}/region/<name>/register", calls.register, changes=True),
        Route("POST", f"{path}/unregister", calls.unregister, changes=True),
        Route("POST", f"{path}/region/<name>/unregister", calls.unregister, changes=True),
        Route("GET", f"{cuda}/status", calls.no_cuda_status),
        Route("GET", f"{cuda}/region/<name>/status", calls.no_cuda_status),
        Route("POST", f"{cuda}/unregister", calls.no_cuda_unregister, changes=True),
        Route("POST", f"{cuda}/region/<name>/unregister", calls.no_cuda_unregister, changes=True),
    )


def _environ(call: Call) -> WSGIEnvironment:
    """What Flask needs to find the handler, and the call itself."""
    return {
        "REQUEST_METHOD": call.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": call.path,
        "QUERY_STRING": call.query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        _CALL: call,
    }


class _Request(flask.Request):
    """A request without a reference in its environment.

    With Werkzeug's, both would keep each other alive until the cycle collector runs.
    """

    def __init__(
        self, environ: WSGIEnvironment, populate_request: bool = True, shallow: bool = False
    ) -> None:
        super().__init__(environ, populate_request=False, shallow=shallow)


class _Flask(flask.Flask):
    request_class = _Request


def _flask_application(table: Iterable[Route], access: Access) -> flask.Flask:
    application = _Flask("cpuserve", static_folder=None)
    application.url_map.strict_slashes = False
    application.url_map.merge_slashes = False  # it answers by a redirect to whatever Host the client sent
    for route in table:
        application.add_url_rule(
            route.rule,
            endpoint=f"{route.method} {route.rule}",
            view_func=_view(route.handler, access.check_origin if route.changes else None),
            methods=[route.method],
        )
    application.register_error_handler(HTTPException, _http_error)
    return application


def _view(handler: Handler, check: Callable[[Call], None] | None) -> Any:
    def checked(call: Call, *variables: str) -> Reply:
        if check is not None:
            check(call)
        return handler(call, *variables)

    def view(**variables: str) -> flask.Response:
        reply = answer(checked, flask.request.environ[_CALL], *variables.values())
        return flask.Response(reply.body, reply.status, dict(reply.headers))

    return view


_NO_GRPC = (
    "gRPC is answered at grpc_port alone; calls of gRPC-Web need a proxy before it, such as Envoy with "
    "its filter grpc_web"
)


def _why_unsupported(path: str) -> str:
    """Why a part of a protocol is not served; empty for what is, and for what no protocol has."""
    part = _UNSUPPORTED.match(path)
    if part is None or f"POST /v2/{part[1]}/region/<name>/register" in flask.current_app.view_functions:
        return ""
    return _WHY_UNSUPPORTED.get(part[1] or part[5], _NO_MODEL_TRACES)


def _http_error(error: HTTPException) -> tuple[bytes, int, Mapping[str, str]]:
    status = error.code or 500
    allowed = {name: value for name, value in error.get_headers() if name == "Allow"}
    text = error.description or error.name
    if status == 404:
        text = f"there is nothing at {flask.request.path}"
        if (
            flask.request.environ[_CALL]
            .headers.get("content-type", "")
            .lower()
            .startswith("application/grpc")
        ):
            status, text = 415, _NO_GRPC
    elif status == 405:
        text = f"{flask.request.method} is not answered at {flask.request.path}: use {allowed.get('Allow')}"
    if status in (404, 405) and (why := _why_unsupported(flask.request.path)):
        status, text, allowed = 501, why, {}
    reply = json_reply({"error": text}, status)
    return reply.body, status, {**dict(reply.headers), **allowed}
