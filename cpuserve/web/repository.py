"""Which models are served, told and changed over HTTP, for all workers at once; it loads nothing itself."""

from __future__ import annotations

from cpuserve.errors import ModelNotReady, RequestError, UnknownModel, UsageError
from cpuserve.serving.pool import Pool
from cpuserve.web.exchange import Call, Reply, json_reply
from cpuserve.web.tfs import status_of_all

__all__ = ["RepositoryRoutes"]

_WAIT_S = 120.0


class RepositoryRoutes:
    """Triton's model repository extension, and OpenVINO Model Server's reload.

    Args:
        pool: the models of the worker that answers.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def index(self, call: Call) -> Reply:
        """``POST /v2/repository/index``: every model there is and its state; ``{"ready": true}`` filters."""
        only_ready = call.document().get("ready") is True
        rows: list[dict[str, str]] = []
        for name in self._pool.repository.names():
            versions = self._pool.models.get(name)
            if not versions:
                latest = self._pool.repository.versions(name)[-1]
                rows.append(
                    {"name": name, "version": str(latest), "state": "UNAVAILABLE", "reason": "unloaded"}
                )
                continue
            rows += [
                {"name": name, "version": str(number), "state": model.state, "reason": model.reason}
                for number, model in sorted(versions.items())
            ]
        return json_reply([row for row in rows if row["state"] == "READY" or not only_ready])

    def load(self, call: Call, model: str) -> Reply:
        """``POST /v2/repository/models/MODEL/load``: answers when every worker has done it.

        Raises:
            RequestError: it brings files or a configuration: those come from the repository only.
            UnknownModel: the repository has no such model.
            ModelNotReady: it could not be loaded; the reason is in the text.
        """
        parameters = call.document().get("parameters") or {}
        if not isinstance(parameters, dict) or parameters:
            raise RequestError(
                "load takes no parameters here: files and configuration are read from the model repository"
            )
        if not self._pool.repository.versions(model):
            try:
                self._pool.repository.find(model)  # raises, and says what there is
            except UnknownModel as error:  # where it lies is no client's business
                raise UnknownModel(
                    str(error).replace(str(self._pool.repository.root), "the repository")
                ) from None
        self._wait(self._pool.control.load(model))
        state = self._pool.known(model)
        if state.pipeline is None:
            raise ModelNotReady(f"model {model!r} could not be loaded: {state.reason}")
        return Reply(200, b"", [])

    def unload(self, _call: Call, model: str) -> Reply:
        """``POST /v2/repository/models/MODEL/unload``: requests inside it are answered, new ones are 404.

        Raises:
            UnknownModel: the repository has no such model.
        """
        if not self._pool.repository.versions(model):
            raise UnknownModel(f"there is no model {model!r} to unload")
        self._wait(self._pool.control.unload(model))
        return Reply(200, b"", [])

    def reload(self, _call: Call) -> Reply:
        """``POST /v1/config/reload``: look at the repository and the ``config.json`` now.

        201 when something changed, else 200.

        Raises:
            RequestError: the ``config.json`` is wrong; everything stays as it was.
        """
        try:
            self._pool.check_config()
        except UsageError as error:
            raise RequestError(str(error)) from None
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
