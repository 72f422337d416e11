"""The model repository: finds and publishes the files of models under NAME/VERSION."""

from __future__ import annotations

import difflib
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cpuserve.errors import RepositoryError, UnknownModel, without_directories
from cpuserve.models.aliases import MODEL_NAME, owners_of_aliases
from cpuserve.models.directories import sync, sync_tree, try_lock
from cpuserve.models.model_files import files_of
from cpuserve.models.version_files import entries_of, ir_in, may_hold, model_in

if TYPE_CHECKING:
    from cpuserve.settings import Settings

__all__ = ["ModelFile", "Repository"]

_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_NAMES = "a name is 1 to 128 letters, digits, '.', '_' or '-', and begins with a letter or digit"
_SHOWN = 20  # ignored entries in a message
_WORKPLACE = ".publish-"  # names may not start with a dot, so this is never taken for a model


@dataclass(frozen=True)
class ModelFile:
    """One version of one model.

    Attributes:
        name: the model's name.
        version: its version, 1 or more.
        xml: the IR's XML file; the weights are beside it, ending in `.bin`. Or a file of another format
            that OpenVINO reads; of a SavedModel its `saved_model.pb`.
    """

    name: str
    version: int
    xml: Path

    @property
    def files(self) -> list[Path]:
        """The files that make up the model: its own, weights beside it, and parts of a cut one."""
        return files_of(self.xml)


class Repository:
    """A directory of models laid out as ROOT/NAME/VERSION/, with the files of one model in each.

    Attributes:
        root: the directory; it need not exist yet.

    Args:
        root: the directory.
        elsewhere: models that lie outside of it, by name: a directory of versions, the directory of one
            version, or a model file; the latter two are version 1.
        only: the models there are, if not all of these.
    """

    def __init__(
        self,
        root: Path,
        elsewhere: Mapping[str, Path] | None = None,
        only: Collection[str] | None = None,
    ) -> None:
        self.root = root
        self._elsewhere = dict(elsewhere or {})
        self._only = only

    @classmethod
    def of(cls, settings: Settings) -> Repository:
        """The models that the settings ask for.

        A model at ``model_path`` and the models of a ``config_path`` are served alone; per-model
        ``model_path`` of a settings file stand beside the repository.
        """
        if settings.model_path:
            elsewhere = {settings.model_name: Path(settings.model_path)}
            return cls(settings.model_repository, elsewhere, elsewhere)
        elsewhere = {
            name: Path(section["model_path"])
            for name, section in settings.models.items()
            if section.get("model_path")
        }
        named = settings.only or ((settings.model_name,) if settings.model_name else ())
        only: Collection[str] | None = named or (elsewhere if settings.config_path else None)
        return cls(settings.model_repository, elsewhere, only)

    def public(self, text: str) -> str:
        """A message for clients: files of the repository are named relative to it, others by name alone."""
        return without_directories(text, self.root, *(place.parent for place in self._elsewhere.values()))

    def names(self) -> list[str]:
        """Names of the models that have a usable version, or whose directory cannot be listed, sorted.

        Raises:
            RepositoryError: the repository's own directory cannot be listed.
        """
        there = {*entries_of(self.root), *self._elsewhere}
        if self._only is not None:
            there &= {*self._only}
        return [name for name in sorted(there) if MODEL_NAME.fullmatch(name) and self._usable(name)]

    def _usable(self, name: str) -> bool:
        return may_hold(lambda: self.versions(name))

    @property
    def wants_none(self) -> bool:
        """Whether no model is asked for: the ``config.json`` lists none yet."""
        return self._only is not None and not self._only

    def missing(self, there: Collection[str]) -> dict[str, str]:
        """Why models that are asked for by name are not among these."""
        asked = {*self._elsewhere, *(self._only or ())}
        return {name: self._absence(name, None, []) for name in sorted(asked.difference(there))}

    def wants(self, name: str) -> bool:
        """Whether a model of that name would be served if it existed."""
        return self._only is None or name in self._only

    def absence(self, name: str) -> str:
        """Why it is unknown whether a model was removed: its repository is missing, or holds no model.

        Empty where other models are there: then the model itself was removed.
        """
        elsewhere = self._elsewhere.get(name)
        place = elsewhere or self.root
        try:
            if not place.exists():
                return f"{place} is missing"
            if elsewhere:
                return ""
            there = [entry for entry in entries_of(self.root) if entry not in self._elsewhere]
        except (RepositoryError, OSError) as error:
            return str(error)
        if any(MODEL_NAME.fullmatch(entry) and self._usable(entry) for entry in there):
            return ""
        return f"{self.root} is empty of models"

    def ignored(self) -> dict[str, str]:
        """Files and directories of the repository that are not served, by path in it, with the reason.

        Raises:
            RepositoryError: the repository's own directory cannot be listed.
        """
        if self._only is not None and {*self._only} <= {*self._elsewhere}:
            return {}
        found = {}
        for name in entries_of(self.root):
            if name[0] == "." or name in self._elsewhere or not self.wants(name):
                continue
            if not (self.root / name).is_dir():
                found[name] = "files of a model lie in NAME/VERSION/"
            elif not MODEL_NAME.fullmatch(name):
                found[name] = _NAMES
            else:
                with suppress(RepositoryError, OSError):  # it is told of with the model
                    found |= self._ignored_versions(name)
        return found

    def _ignored_versions(self, name: str) -> dict[str, str]:
        found = {}
        numbers = self._numbers(name)
        for number in numbers:
            if isinstance(reason := self._look(name, number), str):
                found[f"{name}/{number}"] = reason
        for entry in entries_of(self.root / name):
            a_file_beside = numbers and not (self.root / name / entry).is_dir()  # such as labels
            if entry[0] != "." and not _VERSION.fullmatch(entry) and not a_file_beside:
                found[f"{name}/{entry}"] = "a version is a directory whose name is a whole number from 1"
        return found or ({} if numbers else {name: "it has no version"})

    def versions(self, name: str) -> list[int]:
        """Usable versions of a model, ascending; empty for a model that is not there.

        One whose directory cannot be listed is among them: opening it gives the reason.

        Raises:
            RepositoryError: the model's own directory cannot be listed.
        """
        return [number for number in self._numbers(name) if may_hold(partial(self._look, name, number))]

    def aliases(self) -> dict[str, str]:
        """The model of each alias that one model alone has, and that is the name of none.

        Raises:
            RepositoryError: the repository's own directory cannot be listed.
        """
        owners = self._owners_of_aliases()
        return {alias: one[0] for alias, one in owners.items() if len(one) == 1 and not self._numbers(alias)}

    def _owners_of_aliases(self) -> dict[str, list[str]]:
        names = [name for name in entries_of(self.root) if MODEL_NAME.fullmatch(name)]
        return owners_of_aliases({name: self.home(name) for name in {*names, *self._elsewhere}})

    def own_name(self, name: str) -> str:
        """The name of the model that has this name or alias; what is neither is returned as it is.

        Raises:
            RepositoryError: the directory cannot be listed.
        """
        return name if self._numbers(name) else self.aliases().get(name, name)

    def find(self, name: str, version: int | None = None) -> ModelFile:
        """Finds a version of a model, by default the latest.

        Args:
            name: of the model, or an alias.
            version: its number.

        Raises:
            UnknownModel: there is no such model or version; the message names what there is.
            RepositoryError: the directory cannot be listed.
        """
        name = self.own_name(name)
        there = self.versions(name)
        if version is None and there:
            version = there[-1]
        if version in there:
            found = self._look(name, version)
            if isinstance(found, ModelFile):
                return found
        raise UnknownModel(self._absence(name, version, there), name)

    def why_empty(self) -> str:
        """Why there is no model to serve."""
        if not self._only:
            message = (
                f"no model in {self.root} (NAME/VERSION/model.xml): `cpuserve pull` fetches one, "
                "--model-repository names another directory"
            )
            ignored = [f"{path} ({reason})" for path, reason in self.ignored().items()]
            return "; ignored: ".join([message, ", ".join(ignored[:_SHOWN])] if ignored else [message])
        return "; ".join(self._absence(name, None, []) for name in sorted(self._only))

    @contextmanager
    def publish(self, name: str, version: int | None, *, replace: bool = False) -> Iterator[Path]:
        """Yields a hidden directory; it becomes ROOT/NAME/VERSION if the body succeeds, else it is removed.

        Files are on disk before the rename, so a reader sees all of the version or nothing of it. Only with
        `replace` is there an instant, between two renames, without the version; a publish that is killed in
        that instant is undone by the next publish.

        Args:
            name: the model's name.
            version: the version to publish, or None for one more than the highest there is.
            replace: put the new files in the place of a version that exists.

        Raises:
            RepositoryError: a bad name or version, a version that exists, no model in the yielded directory,
                or a file system that refuses.
        """
        if not MODEL_NAME.fullmatch(name):
            raise RepositoryError(f"model name {name[:140]!r} is refused: {_NAMES}")
        if version is not None and not _VERSION.fullmatch(str(version)):
            raise RepositoryError(f"version {version} of {name}: versions are whole numbers from 1")
        if version is not None and not replace:
            self._refuse_taken(name, version)
        with self._workplace() as workplace:
            fresh = workplace / "new"
            fresh.mkdir()
            yield fresh
            problem = ir_in(fresh)
            if isinstance(problem, str):
                raise RepositoryError(f"nothing published as {name}: {problem}")
            sync_tree(fresh)
            try:
                self._move_in(workplace, name, version, replace)
            except OSError as error:
                raise RepositoryError(f"cannot publish {name} in {self.root}: {error}") from error

    def _move_in(self, workplace: Path, name: str, version: int | None, replace: bool) -> None:
        home = self.root / name
        created = not home.exists()
        home.mkdir(exist_ok=True)
        try:
            if version is None:
                version = max(self._numbers(name), default=0) + 1
            target = home / str(version)
            if replace and target.exists():
                # The path inside the workplace says where it came from, so `_discard` can put it back.
                aside = workplace / "old" / name / str(version)
                aside.parent.mkdir(parents=True)
                target.rename(aside)
            else:
                self._refuse_taken(name, version)
            (workplace / "new").rename(target)
        except BaseException:
            if created:
                with suppress(OSError):  # another publish may have filled it meanwhile
                    home.rmdir()
            raise
        sync(home)
        sync(self.root)

    def _refuse_taken(self, name: str, version: int) -> None:
        target = self.root / name / str(version)
        if entries_of(target):
            raise RepositoryError(f"version {version} of {name} exists already: {target}")

    @contextmanager
    def _workplace(self) -> Iterator[Path]:
        # The lock says "alive": the kernel drops it when the process dies, however it dies.
        created = not self.root.exists()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._clean()
            place, lock = self._locked_directory()
        except OSError as error:
            raise RepositoryError(
                f"cannot write to model repository {self.root}: {error.strerror}"
            ) from error
        try:
            yield place
        finally:
            try:
                self._discard(place)
            finally:
                os.close(lock)
            if created:
                with suppress(OSError):  # not empty: the publish succeeded
                    self.root.rmdir()

    def _locked_directory(self) -> tuple[Path, int]:
        while True:
            place = self.root / f"{_WORKPLACE}{secrets.token_hex(6)}"
            place.mkdir()
            lock = try_lock(place)
            if lock is not None:
                return place, lock

    def _clean(self) -> None:
        """Removes what killed publishes left; the lock of a live one cannot be taken."""
        for name in entries_of(self.root):
            place = self.root / name
            if name.startswith(_WORKPLACE) and (lock := try_lock(place)) is not None:
                try:
                    self._discard(place)
                finally:
                    os.close(lock)

    def _discard(self, place: Path) -> None:
        """Removes a workplace; a version that was moved aside and not replaced goes back first."""
        for aside in place.glob("old/*/*"):
            target = self.root / aside.relative_to(place / "old")
            if not target.exists():
                target.parent.mkdir(exist_ok=True)
                aside.rename(target)
        shutil.rmtree(place)

    def _numbers(self, name: str) -> list[int]:
        if not MODEL_NAME.fullmatch(name):
            return []
        home = self.home(name)
        found = sorted(int(entry) for entry in entries_of(home) if _VERSION.fullmatch(entry))
        # a path that was named counts as a model, so that the message is about it
        return found or [1] if name in self._elsewhere else found

    def home(self, name: str) -> Path:
        """The directory of a model's versions, or the path that was named for it."""
        return self._elsewhere.get(name, self.root / name)

    def _look(self, name: str, version: int) -> ModelFile | str:
        folder = self.home(name) / str(version)
        if name in self._elsewhere and version == 1 and not folder.is_dir():
            folder = self.home(name)
        found = model_in(folder)
        return found if isinstance(found, str) else ModelFile(name, version, found)

    def _absence(self, name: str, version: int | None, there: list[int]) -> str:
        shown = name[:140]
        if there:
            message = f"model {shown} has no version {version}; versions: {', '.join(map(str, there))}"
            if version in self._numbers(name):
                message += f" ({version}: {self._look(name, version)})"
            return message
        place = self._elsewhere.get(name, self.root)
        message = f"no model {shown!r} in {place}"
        if not MODEL_NAME.fullmatch(name):
            return f"{message}: {_NAMES}"
        if name in self._elsewhere and not place.exists():
            return f"{message}: there is no such file or directory"
        if unusable := self._numbers(name):
            return f"{message}: version {unusable[-1]} has {self._look(name, unusable[-1])}"
        if not (names := self.names()):
            return f"{message}: the repository has no models"
        owners = self._owners_of_aliases()
        if len(owners.get(name, [])) > 1:
            return f"{message}; it is an alias of {' and '.join(owners[name])}: use one of these names"
        near = difflib.get_close_matches(shown, [*names, *owners], n=3)
        said = f"did you mean {' or '.join(near)}?" if near else f"models: {', '.join(names)}"
        return f"{message}; {said}"
