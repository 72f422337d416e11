"""Routes that list, load, unload and reload models, for all workers at once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson

from cpuserve.errors import (
    CpuserveError,
    ModelNotReady,
    RepositoryError,
    RequestError,
    UnknownModel,
    UsageError,
)
from cpuserve.models.rollout import Rollout
from cpuserve.protocols.call import Call, Reply, json_reply
from cpuserve.protocols.tfs import status_of_all
from cpuserve.serving.model_problems import CONFIG, REPOSITORY
from cpuserve.serving.model_table import ModelReport
from cpuserve.serving.pool import Pool

__all__ = ["RepositoryRoutes"]

_WAIT_S = 120.0
_LOAD_ERRORS: Mapping[type[Exception], type[CpuserveError]] = {
    UnknownModel: UnknownModel,
    UsageError: RequestError,
}


class RepositoryRoutes:
    """Triton's model repository extension and OpenVINO Model Server's reload.

    Args:
        pool: the models of the worker that answers.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def index(self, call: Call) -> Reply:
        """``POST /v2/repository/index``: every model and its state; ``{"ready": true}`` filters."""
        only_ready = call.document().get("ready") is True
        rows = [_row(one) for one in self._served()]
        rows += [_row(one) for one in self._unloaded()]
        rows.sort(key=lambda row: (row["name"], int(row["version"] or 0)))
        return json_reply([row for row in rows if row["state"] == "READY" or not only_ready])

    def _served(self) -> list[ModelReport]:
        """The models of this worker, and models that failed as a whole."""
        return [one for one in self._pool.states() if one.name not in (REPOSITORY, CONFIG)]

    def _unloaded(self) -> list[ModelReport]:
        """Models of the repository that are unloaded; none while it cannot be read."""
        repository, found = self._pool.repository, []
        with suppress(RepositoryError):
            for name in repository.names():
                if self._pool.control.is_unloaded(name):
                    latest = max(repository.versions(name), default=0)
                    found.append(ModelReport(name, latest, "UNAVAILABLE", "unloaded"))
        return found

    def load(self, call: Call, model: str) -> Reply:
        """``POST /v2/repository/models/MODEL/load``: answers when every worker has done it.

        The parameter ``config`` is a JSON text with labels and candidates, which hold until the next load.

        Raises:
            RequestError: it brings files or another configuration: those come from the repository only. Or
                the ``config.json`` is wrong.
            UnknownModel: the repository has no such model.
            ModelNotReady: it could not be loaded; the reason is in the text.
        """
        config = _config_of(model, call.document().get("parameters") or {})
        repository = self._pool.repository
        try:
            repository = self._pool.repository_now()
            model = repository.find(model).name  # raises, and says what there is
        except (UnknownModel, RepositoryError, UsageError) as error:  # where it lies is no client's business
            kind = _LOAD_ERRORS.get(type(error), ModelNotReady)
            raise kind(f"failed to load {model!r}: {repository.public(str(error))}") from None
        self._wait(self._pool.control.load(model, self._rollout(model, config)))
        failures = self._failures(model)
        if failures:
            raise ModelNotReady(f"failed to load {model!r}: {failures}")
        return Reply(200, b"", [])

    def _rollout(self, model: str, text: str) -> str:
        """The labels and candidates that a load brings, as JSON; empty where it brings none.

        Raises:
            RequestError: it brings something else.
        """
        if not text:
            return ""
        document = orjson.loads(text)
        try:
            Rollout.parse({"version_labels": dict(self._pool.rollouts.labels(model)), **document}, "config")
        except UsageError as error:
            raise RequestError(f"failed to load {model!r}: {error}") from None
        return text

    def _failures(self, model: str) -> str:
        """Why workers could not load a model or the newest files of it, and what is served all the same."""
        told = [one for one in self._pool.control.table.read() if one.name == model]
        reasons = {(one.version, one.reason): None for one in told if one.reason}
        text = "; ".join(
            f"version {version}: {reason}" if version else reason for version, reason in sorted(reasons)
        )
        served = self._pool.ready_versions(model)
        return f"{text} (served: version {', '.join(map(str, served))})" if text and served else text

    def unload(self, _call: Call, model: str) -> Reply:
        """``POST /v2/repository/models/MODEL/unload``: requests in progress are answered, new ones get 404.

        Raises:
            UnknownModel: there is no such model.
        """
        model = self._pool.own_name(model)
        if model not in self._pool.models and model not in {one.name for one in self._unloaded()}:
            raise UnknownModel(f"there is no model {model!r} to unload")
        self._wait(self._pool.control.unload(model))
        return Reply(200, b"", [])

    def reload(self, _call: Call) -> Reply:
        """``POST /v1/config/reload``: read the repository and the ``config.json`` now.

        201 when something changed, else 200.

        Raises:
            RequestError: the ``config.json`` is wrong; everything stays as it was.
        """
        try:
            self._pool.repository_now()
        except UsageError as error:
            raise RequestError(self._pool.repository.public(str(error))) from None
        before = self._states()
        self._wait(self._pool.control.rescan())
        return json_reply(status_of_all(self._pool), 201 if self._states() != before else 200)

    def _states(self) -> list[tuple[str, int, str, object]]:
        return [
            (name, number, model.state, model.signature)
            for name, versions in self._pool.models.items()
            for number, model in versions.items()
        ]

    def _wait(self, generation: int) -> None:
        if not self._pool.control.wait(generation, _WAIT_S):
            raise ModelNotReady(f"not every worker has done it after {_WAIT_S:g} s; it goes on")


def _config_of(model: str, parameters: Any) -> str:
    """The text of a load's parameter ``config``, a JSON object; empty where it has none.

    Raises:
        RequestError: the load has other parameters, or it is none.
    """
    if not isinstance(parameters, dict) or parameters.keys() - {"config"}:
        raise RequestError(
            f'failed to load {model!r}: it takes no parameters but "config" here, files are read from '
            "the model repository"
        )
    text = parameters.get("config", "")
    if not isinstance(text, str):
        raise RequestError(f'failed to load {model!r}: the parameter "config" is JSON in a text')
    try:
        document = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError as error:
        raise RequestError(f"failed to load {model!r}: config is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise RequestError(f"failed to load {model!r}: config is no JSON object")
    return text


def _row(one: ModelReport) -> dict[str, str]:
    version = str(one.version) if one.version else ""
    return {"name": one.name, "version": version, "state": one.state, "reason": one.reason}
