"""Loads one version of a model in a worker, and holds its state."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from cpuserve.errors import CpuserveError, ModelChanging, RepositoryError
from cpuserve.machine.process_controls import lower_thread_priority
from cpuserve.models.model_files import Signature, signature_of
from cpuserve.models.repository import ModelFile, Repository
from cpuserve.models.warm_up_files import watched_files_of
from cpuserve.serving.compile_properties import streams_and_threads
from cpuserve.serving.loader import load_pipeline, properties_in_force
from cpuserve.serving.openvino_core import openvino_core
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.postprocess import TensorsOnly
from cpuserve.serving.reload_control import ReloadControl
from cpuserve.serving.statistics import Statistics
from cpuserve.settings import Settings

__all__ = ["ModelState", "VersionCheck", "VersionLoader", "files_now"]

_log = logging.getLogger("cpuserve.pool")
_STUCK_S = 900.0  # a version that loads for longer counts as hanging
_SETTLE_S = 1.0  # files that are unchanged for so long are loaded

VersionCheck = Callable[[Pipeline, ModelFile, Settings], None]
"""Asks a loaded version before it serves; raises `ModelLoadError` where its answers are wrong."""


@dataclass
class ModelState:
    """One version of a model and its state.

    Attributes:
        file: where it lies.
        signature: of its files; it differs once they were replaced.
        state: "LOADING", "READY" or "UNAVAILABLE", Triton's words.
        reason: why it is unavailable, or, beside a pipeline, why its newer files are not served.
        pipeline: what answers, once it is ready.
        changing: whether it is unavailable since its files changed while they were read.
    """

    file: ModelFile
    signature: Signature = ()
    state: str = "LOADING"
    reason: str = ""
    pipeline: Pipeline | None = None
    changing: bool = False


class VersionLoader:
    """Loads versions, one at a time, for one worker.

    Args:
        threads: compute threads of the worker's seat; one stream each.
        statistics: the counters of all workers.
        control: what the workers tell each other about loading.
        row: this worker's in both.
        check: refuses versions that give wrong answers; None: none is refused.
    """

    def __init__(
        self,
        threads: int,
        statistics: Statistics,
        control: ReloadControl,
        row: int,
        check: VersionCheck | None = None,
    ) -> None:
        self._check = check
        self._threads = threads
        self._statistics = statistics
        self._control = control
        self._row = row
        self._core: Any = None
        self._loading_since: float | None = None

    @property
    def stuck(self) -> bool:
        """Whether a version has been loading for so long that it hangs."""
        since = self._loading_since
        return since is not None and time.monotonic() - since > _STUCK_S

    def load(
        self,
        file: ModelFile,
        signature: Signature,
        settings: Settings,
        public: Callable[[str], str],
        *,
        beside_traffic: bool,
    ) -> ModelState:
        """Load a version; whatever that raises is the reason why the version is unavailable.

        Args:
            file: the version.
            signature: of its files.
            settings: the settings in force.
            public: makes a reason fit for clients.
            beside_traffic: wait for the other workers' turns, so that one seat at a time is disturbed.
        """
        began = time.perf_counter()
        model = ModelState(file, signature)
        try:
            with self._control.turn if beside_traffic else nullcontext():
                self._loading_since = time.monotonic()
                # the streams' threads would keep a low priority; a lone stream runs in its caller
                own = settings.for_model(file.name, {})
                if beside_traffic and streams_and_threads(own, self._threads) == (1, 1):
                    lower_thread_priority()
                model.pipeline = self._pipeline(file, settings)
        except BaseException as error:  # noqa: BLE001  # SystemExit too: it is the model's, not the loader's
            expected = isinstance(error, CpuserveError)
            reason = str(error) if expected else f"{type(error).__name__}: {error}"
            model.state, model.reason = "UNAVAILABLE", public(reason)
            if isinstance(error, ModelChanging):
                model.signature, model.changing = (), True  # so that the next look tries it again
            trace = None if expected else error
            _log.error(
                "model %s version %d is not served: %s", file.name, file.version, reason, exc_info=trace
            )
            return model
        finally:
            self._loading_since = None
        model.state = "READY"
        _log.info(
            "model %s version %d ready after %.2f s: %s",
            *(file.name, file.version, time.perf_counter() - began, properties_in_force(model.pipeline)),
        )
        if model.pipeline.batch.reason:
            reason = model.pipeline.batch.reason
            _log.info("model %s version %d runs each request alone: %s", file.name, file.version, reason)
        if self._row == 0:  # once for all workers
            _log.info(
                "model %s version %d computes in %s: %s",
                *(file.name, file.version, _precision(model.pipeline), model.pipeline.precision_reason),
            )
        if isinstance(model.pipeline.post, TensorsOnly):
            # a model with a model_type was meant to give answers; another may be meant for tensors only
            level = logging.WARNING if model.pipeline.card.model_type else logging.INFO
            reason = model.pipeline.post.reason
            _log.log(level, "model %s version %d answers tensors only: %s", file.name, file.version, reason)
        return model

    def _pipeline(self, file: ModelFile, settings: Settings) -> Pipeline:
        if self._core is None:
            self._core = openvino_core()
        recorder = self._statistics.recorder(self._row, file.name, file.version)
        made = load_pipeline(
            *(self._core, file, settings, self._threads, recorder),
            crash_checks=self._control.crash_checks if settings.check_models_in_child else None,
            settle_s=min(settings.file_system_poll_wait_seconds or _SETTLE_S, _SETTLE_S),
        )
        if self._check is not None:
            self._check(made, file, settings)
        return made


def _precision(pipeline: Pipeline) -> str:
    """The precision in force, which OpenVINO may have changed."""
    return pipeline.batcher.engine.read_back()["INFERENCE_PRECISION_HINT"]


def files_now(repository: Repository, name: str, version: int) -> tuple[ModelFile, Signature] | Exception:
    """Where a version lies and the signature of its files, or the error of one that cannot be looked at."""
    try:
        file = repository.find(name, version)
        return file, signature_of(watched_files_of(file.xml))
    except (RepositoryError, OSError) as error:
        return error
