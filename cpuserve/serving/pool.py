"""The models of one worker: which versions there should be, which are ready; it answers no request itself."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import Any

from cpuserve.errors import CpuserveError, ModelNotReady, UnknownModel
from cpuserve.machine.slice import shorten_slice
from cpuserve.models.ovms_config import with_models_of
from cpuserve.models.repository import ModelFile, Repository
from cpuserve.models.versions import VersionPolicy
from cpuserve.serving.control import Control
from cpuserve.serving.loader import load_pipeline, new_core, properties_in_force
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.postprocess import TensorsOnly
from cpuserve.serving.stats import Statistics
from cpuserve.serving.streams import streams_of
from cpuserve.settings import Settings

__all__ = ["ModelState", "Pool"]

_log = logging.getLogger("cpuserve.pool")
_LOOK_S = 0.1  # how often the shared control is looked at
_LOADING_NICE = 5  # a quarter of the CPU beside a busy thread; less, and a load never ends on a full machine
_LOADING_SLICE_S = 0.0001  # a request that comes meanwhile waits no longer than that for the CPU

Signature = tuple[tuple[int, int, int], ...]


@dataclass
class ModelState:
    """One version of one model and how far it is.

    Attributes:
        file: where it lies.
        signature: what its files looked like; a change means another model under the same version.
        state: "LOADING", "READY" or "UNAVAILABLE", Triton's words.
        reason: why it is unavailable.
        pipeline: what answers, once it is ready.
    """

    file: ModelFile
    signature: Signature = ()
    state: str = "LOADING"
    reason: str = ""
    pipeline: Pipeline | None = None


class Pool:
    """The models of a repository, kept as the version policy and the shared control want them.

    A version is loaded and warmed beside those that serve, then takes their place in one assignment; requests
    inside an old one finish there. A version that cannot be loaded never takes the place of one that can: the
    older one is kept, and one that is started anew falls back to the newest that loads.

    Args:
        settings: the settings in force.
        threads: compute threads of this worker's seat; one stream each.
        statistics: the block of all workers.
        control: what the workers tell each other about loading.
        row: this worker's in both.
    """

    def __init__(
        self, settings: Settings, threads: int, statistics: Statistics, control: Control, row: int
    ) -> None:
        self._settings = settings
        self._threads = threads
        self.statistics = statistics
        self.control = control
        self._row = row
        self.repository = Repository.of(settings)
        self._core: Any = None
        self.stopping = False
        self.models: dict[str, dict[int, ModelState]] = {
            name: {file.version: ModelState(file)}
            for name in self.repository.names()
            for file in [self.repository.find(name)]
        }

    @property
    def ready(self) -> bool:
        """Whether every model has a version that answers; false without models, and once it is stopping."""
        if self.stopping or not self.models:
            return False
        return all(self._best(versions) for versions in self.models.values())

    def get(self, name: str, version: str | None = None) -> Pipeline:
        """The pipeline of a model.

        Args:
            name: of the model.
            version: its number as text; None for the newest that is ready.

        Raises:
            UnknownModel: there is no such model or version.
            ModelNotReady: it is loading, or could not be loaded.
        """
        versions = self.models.get(name)
        if versions is not None and version is None:
            best = self._best(versions)
            if best is not None and best.pipeline is not None:
                return best.pipeline
        model = self.known(name, version)
        if model.pipeline is None:
            raise ModelNotReady(f"model {name!r} is not ready: {model.reason or 'still loading'}")
        return model.pipeline

    def known(self, name: str, version: str | None = None) -> ModelState:
        """The state of a version, by default the one that answers, else the newest.

        Raises:
            UnknownModel: there is no such model or version.
        """
        versions = self.models.get(name)
        if not versions:
            there = ", ".join(sorted(self.models)) or "none"
            raise UnknownModel(f"there is no model {name!r}; the models served are: {there}")
        if version is None:
            return self._best(versions) or versions[max(versions)]
        for number, model in versions.items():
            if str(number) == version:
                return model
        there = ", ".join(str(number) for number in sorted(versions))
        raise UnknownModel(f"model {name!r} has no version {version!r}; the versions served are: {there}")

    def ready_versions(self, name: str) -> list[int]:
        """Versions of a model that answer, ascending."""
        return sorted(number for number, model in self.models.get(name, {}).items() if model.pipeline)

    @staticmethod
    def _best(versions: dict[int, ModelState]) -> ModelState | None:
        newest = None
        for number, model in versions.items():
            if model.pipeline is not None and (newest is None or number > newest):
                newest = number
        return None if newest is None else versions[newest]

    def watch(self, stop: threading.Event) -> None:
        """Follow the repository and the control until ``stop``; the first `sync` is the caller's."""
        poll_s = self._settings.file_system_poll_wait_seconds
        next_poll = time.monotonic() + poll_s
        while not stop.wait(_LOOK_S):
            asked = self.control.generation > self.control.applied(self._row)
            due = poll_s > 0 and time.monotonic() >= next_poll
            if not asked and not due:
                continue
            next_poll = time.monotonic() + poll_s
            try:
                self.sync(beside_traffic=True)
            except Exception:  # noqa: BLE001  # a repository that cannot be read now may be readable at the next look
                _log.exception("following the repository failed")

    def sync(self, *, beside_traffic: bool = False) -> None:
        """Make the pool what the repository, the policy and the control want.

        Args:
            beside_traffic: wait for the other workers' turns, so that one seat at a time is disturbed.
        """
        generation = self.control.generation
        if self._settings.config_path:
            self._follow_config()
        names = self.repository.names()
        for name in names:
            if not self.control.is_unloaded(name):
                self._bring_up(name, beside_traffic=beside_traffic)
        gone = [name for name in self.models if name not in names or self.control.is_unloaded(name)]
        for name in gone:
            self.models = {known: versions for known, versions in self.models.items() if known != name}
            _log.info("model %s is no longer served", name)
        if gone:
            _give_back_memory()
        self.control.set_applied(self._row, generation)

    def check_config(self) -> None:
        """Read the ``config.json`` without taking it over.

        Raises:
            UsageError: it is wrong.
        """
        if self._settings.config_path:
            with_models_of(self._settings)

    def _follow_config(self) -> None:
        """Take over what the ``config.json`` says now; one that is wrong changes nothing.

        A model of which it says something else than before is loaded anew, beside the one that serves.
        """
        try:
            settings, _ = with_models_of(self._settings)
        except CpuserveError as error:
            _log.error("config_path stays as it was: %s", error)
            return
        if settings.models == self._settings.models:
            return
        for name, versions in self.models.items():
            if settings.models.get(name) != self._settings.models.get(name):
                for model in versions.values():
                    model.signature = ()
        self._settings, self.repository = settings, Repository.of(settings)

    def _bring_up(self, name: str, *, beside_traffic: bool) -> None:
        """Load the versions of a model that are wanted, newest first, and drop those that are not."""
        policy = VersionPolicy.parse(self._settings.for_model(name, {}).model_version_policy)
        there = self.repository.versions(name)
        served = dict(self.models.get(name, {}))
        changed, enough = False, 0
        keep: set[int] = set()
        for version in policy.candidates(there):
            if policy.count is not None and enough >= policy.count:
                break
            file = self.repository.find(name, version)
            signature = _signature(file)
            known = served.get(version)
            if known is None or known.signature != signature:
                fresh = self._load(file, signature, beside_traffic=beside_traffic)
                changed = True
                if fresh.pipeline is None and known is not None and known.pipeline is not None:
                    fresh = ModelState(file, signature, known.state, fresh.reason, known.pipeline)
                served[version] = known = fresh
                if fresh.pipeline is not None:
                    self.models = {**self.models, name: dict(served)}  # serves from here on
            keep.add(version)
            enough += known.pipeline is not None
        if enough or not any(model.pipeline for model in served.values()):
            dropped = [version for version in served if version not in keep]
        else:  # nothing wanted can be loaded: what serves goes on
            dropped = [
                version for version, model in served.items() if version not in keep and not model.pipeline
            ]
        for version in dropped:
            del served[version]
        if changed or dropped:
            self.models = {**self.models, name: served}
        if dropped:
            _log.info("model %s: version %s is no longer served", name, ", ".join(map(str, dropped)))
            _give_back_memory()

    def _load(self, file: ModelFile, signature: Signature, *, beside_traffic: bool) -> ModelState:
        began = time.perf_counter()
        model = ModelState(file, signature)
        try:
            if beside_traffic:
                with self.control.turn:
                    # the streams' threads would keep a low priority; a lone stream runs in its caller
                    alone = streams_of(self._settings.for_model(file.name, {}), self._threads) == (1, 1)
                    if alone and not shorten_slice(_LOADING_SLICE_S, _LOADING_NICE):
                        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOADING_NICE)
                    model.pipeline = self._pipeline(file)
            else:
                model.pipeline = self._pipeline(file)
        except (CpuserveError, RuntimeError) as error:
            model.state, model.reason = "UNAVAILABLE", str(error)
            _log.error("model %s version %d is not served: %s", file.name, file.version, error)
            return model
        model.state = "READY"
        _log.info(
            "model %s version %d ready after %.2f s: %s",
            *(file.name, file.version, time.perf_counter() - began, properties_in_force(model.pipeline)),
        )
        if isinstance(model.pipeline.post, TensorsOnly):
            # a model that says what it answers was meant to answer in words; another may be meant for tensors
            level = logging.WARNING if model.pipeline.card.model_type else logging.INFO
            reason = model.pipeline.post.reason
            _log.log(level, "model %s version %d answers tensors only: %s", file.name, file.version, reason)
        return model

    def _pipeline(self, file: ModelFile) -> Pipeline:
        if self._core is None:
            self._core = new_core()
        recorder = self.statistics.recorder(self._row, file.name, file.version)
        return load_pipeline(self._core, file, self._settings, self._threads, recorder)


def _signature(file: ModelFile) -> Signature:
    """What tells one pair of model files from another under the same names."""
    found = []
    for path in file.files:
        status = path.stat()
        found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


def _give_back_memory() -> None:
    """Let the kernel have what a dropped model held; glibc would keep it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
