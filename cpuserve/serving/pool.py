"""Keeps the models of one worker as the repository, the version policy and clients want them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from cpuserve.errors import CpuserveError, ModelNotReady, RepositoryError, UnknownModel
from cpuserve.machine.process_controls import malloc_trim
from cpuserve.models.ovms_config import with_models_of
from cpuserve.models.repository import Repository
from cpuserve.models.rollout import ROLLOUT_KEYS
from cpuserve.models.versions import VersionPolicy
from cpuserve.serving.model_problems import CONFIG, REPOSITORY, ModelProblems
from cpuserve.serving.model_table import ModelReport
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.reload_control import ReloadControl
from cpuserve.serving.removed_models import RemovedModels
from cpuserve.serving.rollouts import Rollouts, is_busy, shown_labels, shown_versions
from cpuserve.serving.statistics import SERVER, Statistics
from cpuserve.serving.version_choice import newest_ready
from cpuserve.serving.version_loader import ModelState, VersionCheck, VersionLoader, files_now
from cpuserve.settings import Settings

__all__ = ["Pool"]

_log = logging.getLogger("cpuserve.pool")
_LOOK_S = 0.1  # how often the shared control is looked at
_CHANGING_S = 10.0  # a worker that starts waits so long for files that are being written
_NEWEST = (None, "0")  # TensorFlow Serving's clients send 0 for no version
_UNKNOWN = "Request for unknown model"  # clients of Triton look for its words in messages
_NO_VERSION = "failed to get model version from specified version string"


class Pool:
    """The models of one worker, loaded and dropped as the repository, the version policy and clients want.

    A version is loaded and warmed beside those that serve, then takes their place in one assignment; requests
    in an old one finish there. A version that cannot be loaded never takes the place of one that can: the
    older one is kept, and a new worker falls back to the newest that loads. Whatever a model's own code
    raises while it is loaded makes that version unavailable, nothing else.

    A model whose files were removed is served for `removal_grace_s` more. Where the repository is missing, or
    loses all its models at once, nothing counts as removed: everything is still served.

    Attributes:
        models: every version that is known, by model and number.
        rollouts: labels and candidates of the models.
        problems: what is wrong with models as a whole, by name, and with the `REPOSITORY`.
        stopping: whether the worker was told to end.
        dead: whether the thread that follows the repository has ended.

    Args:
        settings: the settings in force.
        threads: compute threads of this worker's seat; one stream each.
        statistics: the block of all workers.
        control: what the workers tell each other about loading.
        row: this worker's in both.
        check: refuses versions that give wrong answers; None: none is refused.
    """

    def __init__(
        self,
        settings: Settings,
        threads: int,
        statistics: Statistics,
        control: ReloadControl,
        row: int,
        check: VersionCheck | None = None,
    ) -> None:
        self._settings = settings
        self._loader = VersionLoader(threads, statistics, control, row, check)
        self.statistics, self.control, self._row = statistics, control, row
        self.repository = Repository.of(settings)
        self.stopping = self.dead = self._synced = False
        # a lambda, since the repository is another one after a changed config.json
        self.problems = ModelProblems(lambda text: self.repository.public(text))  # noqa: PLW0108
        self._removed = RemovedModels(settings.removal_grace_s, time.monotonic)
        self._ignored: dict[str, str] = {}
        self._aliases: dict[str, str] = {}
        whole = statistics.recorder(row, SERVER, 0)
        self.rollouts = Rollouts(control, row, lambda: self.stopping or is_busy(whole, self.models))
        self.models: dict[str, dict[int, ModelState]] = {}
        with suppress(CpuserveError, OSError):  # `sync` says what is wrong
            self.models = {
                name: {file.version: ModelState(file)}
                for name in self.repository.names()
                for there in [self.repository.versions(name)]
                for file in [self.repository.find(name, self.version_policy(name).newest(there))]
            }

    @property
    def ready(self) -> bool:
        """Whether models answer: every one if `strict_readiness`, else at least one when all were tried.

        False without models where some are asked for, once it is stopping, and when loading hangs or ended.
        """
        if self.stopping or self.dead or self.stuck or not self._synced:
            return False
        if not self.models:
            return self.repository.wants_none and not self.problems.keys() - {CONFIG}
        answering = (bool(newest_ready(versions)) for versions in self.models.values())
        if self._settings.strict_readiness:
            return all(answering) and not self.problems.keys() - {CONFIG, REPOSITORY, *self.models}
        return any(answering)

    @property
    def stuck(self) -> bool:
        """Whether a version has been loading for so long that it hangs."""
        return self._loader.stuck

    def get(self, name: str, version: str | None = None) -> Pipeline:
        """The pipeline of a model.

        Args:
            name: of the model, or an alias.
            version: its number as text, or its label; None or "0": the newest that is ready and no candidate.

        Raises:
            UnknownModel: there is no such model or version.
            ModelNotReady: it is loading, or could not be loaded.
        """
        model = self.known(name, version)
        if model.pipeline is None:
            raise ModelNotReady(f"model {name!r} is not ready: {model.reason or 'still loading'}")
        return model.pipeline

    def pick(self, name: str, version: str | None, headers: Mapping[str, str]) -> Pipeline:
        """The pipeline that answers a request: that of `get`, but a canary gets its share.

        Args:
            name: of the model, or an alias.
            version: as for `get`, which says what is raised.
            headers: of the request, by name in lower case.
        """
        if version in _NEWEST:
            choice = self.rollouts.choices.get(name)
            if choice is None:
                versions = self.models.get(name)
                newest = None if versions is None else newest_ready(versions)
                picked = None if newest is None else newest.pipeline
            else:
                picked = choice.pick(headers)
            if picked is not None:
                return picked
        own = self.own_name(name)
        return self.get(name, version) if own == name else self.pick(own, version, headers)

    def known(self, name: str, version: str | None = None) -> ModelState:
        """The state of a version; by default of the one that answers requests without it, else of the newest.

        Raises:
            UnknownModel: there is no such model or version.
        """
        own = self.own_name(name)
        versions = self.models.get(own)
        if not versions:
            there = ", ".join(sorted(self.models)) or "none"
            why = self.problems.get(own) or f"there is no model {name!r}"
            raise UnknownModel(f"{_UNKNOWN}: {why}; those served are: {there}")
        if version in _NEWEST:
            choice = self.rollouts.choices.get(own)
            default = newest_ready(versions) if choice is None else choice.default
            return default or versions[max(versions)]
        labels = self.rollouts.labels(own)
        for number, model in versions.items():
            if str(number) == version or labels.get(version or "") == number:
                return model
        there = shown_versions(versions, labels)
        if not str(version).isdecimal():
            raise UnknownModel(f"{_NO_VERSION} {version!r}: {there}")
        raise UnknownModel(f"{_UNKNOWN}: {name!r} has no version {version}; {there}")

    def labelled(self, name: str, label: str) -> str:
        """The number of the version that has a label, as text.

        Raises:
            UnknownModel: there is no such model or label.
        """
        labels = self.rollouts.labels(self.known(name).file.name)
        if label in labels:
            return str(labels[label])
        raise UnknownModel(f"{_UNKNOWN}: {name!r} has no label {label!r}; {shown_labels(labels)}")

    def own_name(self, name: str) -> str:
        """The name of the model that has this name or alias; what is neither is returned as it is."""
        return name if name in self.models else self._aliases.get(name, name)

    def ready_versions(self, name: str) -> list[int]:
        """Versions of a model that answer, ascending."""
        return sorted(number for number, model in self.models.get(name, {}).items() if model.pipeline)

    def watch(self, stop: threading.Event, synced: Callable[[], None] = lambda: None) -> None:
        """Follow the repository and the control until ``stop``, after the caller's first `sync`.

        Args:
            stop: set when the worker ends.
            synced: called after each look.
        """
        poll_s = self._settings.file_system_poll_wait_seconds
        next_poll = time.monotonic() + poll_s
        while not stop.wait(_LOOK_S):
            now = time.monotonic()
            asked = self.control.generation > self.control.applied(self._row)
            due = poll_s > 0 and now >= next_poll
            if not asked and not due and not self._removed.due:
                continue
            next_poll = now + poll_s
            self.sync(beside_traffic=True, stop=stop)
            synced()

    def start(self, stop: threading.Event) -> None:
        """Look at the repository for the first time, and wait a while for files that change just now.

        Other workers may still serve the files from before the change: this one must not refuse those.

        Args:
            stop: no further version is loaded once it is set.
        """
        until = time.monotonic() + _CHANGING_S
        self.sync(stop=stop)
        while self._changing() and time.monotonic() < until and not stop.wait(_LOOK_S):
            self.sync(stop=stop)

    def _changing(self) -> bool:
        """Whether a version is not served since its files were just being written."""
        return any(
            model.changing and model.pipeline is None
            for versions in self.models.values()
            for model in versions.values()
        )

    def sync(self, *, beside_traffic: bool = False, stop: threading.Event | None = None) -> None:
        """Load and drop models as the repository, the policy and the control want.

        What cannot be done is in `problems` and in the models' reasons, in the log, and told to all workers.

        Args:
            beside_traffic: wait for the other workers' turns, so that one seat at a time is disturbed.
            stop: no further version is loaded once it is set.
        """
        generation, before = self.control.generation, self.control.applied(self._row)
        try:
            if self._settings.config_path:
                self._follow_config()
            names, failure = self._names()
            self.rollouts.follow(self.models, self.repository.home, self._settings)
            for name in names:
                if stop is not None and stop.is_set():
                    return
                if not self.control.is_unloaded(name):
                    again = self.control.table.load_was_asked(name, before, generation)
                    self._try_bring_up(name, beside_traffic=beside_traffic, again=again)
            self._drop_gone(names, failure)
            self._synced = True
        except Exception as error:  # noqa: BLE001  # a repository that cannot be followed now may be at the next look
            _log.exception("following the repository failed")
            self.problems.put(REPOSITORY, f"{type(error).__name__}: {error}")
        finally:
            self.control.table.write(self._row, self.states())
            self.control.set_applied(self._row, generation)

    def states(self) -> list[ModelReport]:
        """The state of every version, and what is wrong with models as a whole and with the repository."""
        found = [
            ModelReport(name, version, model.state, model.reason)
            for name, versions in self.models.items()
            for version, model in versions.items()
        ]
        return found + [ModelReport(name, 0, "UNAVAILABLE", reason) for name, reason in self.problems.items()]

    def _names(self) -> tuple[list[str], str]:
        """Names of the models in the repository, or why they cannot be listed."""
        try:
            names, ignored = self.repository.names(), self.repository.ignored()
            self._aliases = self.repository.aliases()
        except (RepositoryError, OSError) as error:
            return [], str(error)
        for path, reason in sorted(ignored.items() - self._ignored.items()):
            _log.warning("%s in the model repository is ignored: %s", path, reason)
        self._ignored = ignored
        return names, ""

    def _try_bring_up(self, name: str, *, beside_traffic: bool, again: bool) -> None:
        """Bring a model up; whatever that raises is a problem of this model only."""
        try:
            self._bring_up(name, beside_traffic=beside_traffic, again=again)
        except Exception as error:  # noqa: BLE001  # the other models go on
            reason = str(error) if isinstance(error, CpuserveError) else f"{type(error).__name__}: {error}"
            self.problems.put(name, reason)
            for model in self.models.get(name, {}).values():
                if model.state == "LOADING":
                    model.state, model.reason = "UNAVAILABLE", self.repository.public(reason)
        else:
            self.problems.put(name, self.rollouts.problem(name))

    def _drop_gone(self, names: list[str], failure: str) -> None:
        """Drop models that are unloaded or were removed, and those that never answered and are not there."""
        models = self.models
        unloaded = {name for name in models if self.control.is_unloaded(name)}
        answering = [name for name in models if newest_ready(models[name]) and name not in unloaded]
        removed, absences = self._removed.look(self.repository, answering, names, failure)
        silent = [name for name in models if name not in {*answering, *names}]
        for name in sorted({*unloaded, *removed, *silent}):
            self._removed.forget(name)
            self.models = {known: versions for known, versions in self.models.items() if known != name}
            _log.info("model %s is no longer served", name)
        if len(self.models) < len(models):
            malloc_trim()
        missing = {} if failure else self.repository.missing([*names, *self.models])
        self.problems.keep(names, missing)
        fine = names or self.models or missing or self.repository.wants_none
        reason = failure or ("" if fine else self.repository.why_empty())
        if absences:
            reason = f"{'; '.join(absences)}; what was loaded is served on, an unload stops a model"
        self.problems.put(REPOSITORY, reason)

    def repository_now(self) -> Repository:
        """The repository by the ``config.json`` of this moment, which workers follow at their next look.

        Raises:
            UsageError: the file is wrong.
        """
        settings = self._settings
        return Repository.of(with_models_of(settings)[0]) if settings.config_path else self.repository

    def _follow_config(self) -> None:
        """Apply the ``config.json`` as it is now; one that is wrong changes nothing.

        A model whose settings changed in it is loaded again, beside the one that serves.
        """
        try:
            settings, _ = with_models_of(self._settings)
        except CpuserveError as error:
            self.problems.put(CONFIG, f"the models stay as they were: {error}")
            return
        self.problems.put(CONFIG, "")
        if settings.models == self._settings.models:
            return
        for name, versions in self.models.items():
            sections = (each.models.get(name, {}) for each in (settings, self._settings))
            now, before = ({key: one[key] for key in one if key not in ROLLOUT_KEYS} for one in sections)
            if now != before:
                for model in versions.values():
                    model.signature = ()
        self._settings, self.repository = settings, Repository.of(settings)

    def version_policy(self, name: str) -> VersionPolicy:
        """Which versions of a model are wanted."""
        return VersionPolicy.parse(self._settings.for_model(name, {}).model_version_policy)

    def _bring_up(self, name: str, *, beside_traffic: bool, again: bool) -> None:
        """Load the versions of a model that are wanted, newest first, and drop those that are not."""
        policy, settings = self.version_policy(name), self._settings.for_model(name, {})
        rollout = self.rollouts.read(name, self.repository.home(name), settings)
        there = self.repository.versions(name)
        served = dict(self.models.get(name, {}))
        self.rollouts.choose(name, rollout, served)
        changed, enough = False, 0
        keep: set[int] = set()
        unread: dict[int, Exception] = {}  # by version
        named = sorted(rollout.versions.intersection(there), reverse=True)
        chosen = policy.candidates([version for version in there if version not in rollout.candidates])
        for version in dict.fromkeys([*chosen, *named]):
            if policy.count is not None and enough >= policy.count and version not in named:
                continue
            if isinstance(found := files_now(self.repository, name, version), Exception):
                unread[version] = found
                enough += version in self.ready_versions(name) and version not in rollout.candidates
                continue
            file, signature = found
            known = served.get(version)
            if known is None or known.signature != signature or (again and known.reason):
                fresh = self._loader.load(
                    file, signature, self._settings, self.repository.public, beside_traffic=beside_traffic
                )
                changed = True
                if fresh.pipeline is None and known is not None and known.pipeline is not None:
                    fresh = ModelState(file, fresh.signature, known.state, fresh.reason, known.pipeline)
                served[version] = known = fresh
                self.rollouts.choose(name, rollout, served)
                if fresh.pipeline is not None:
                    self.models = {**self.models, name: dict(served)}  # serves from here on
            keep.add(version)
            enough += known.pipeline is not None and version not in rollout.candidates
        keep.update(unread, self.rollouts.labels(name).values())  # also labels that stay with the one before
        # where no wanted version can be loaded, those that serve stay
        dropped = [one for one in served if one not in keep and (enough or not served[one].pipeline)]
        served = {version: model for version, model in served.items() if version not in dropped}
        self.rollouts.choose(name, rollout, served)
        if changed or dropped:
            self.models = {**self.models, name: served}
        if dropped:
            _log.info("model %s: version %s is no longer served", name, ", ".join(map(str, dropped)))
            malloc_trim()
        if unread:
            raise unread[max(unread)]
