"""The strategy ``optuna``: TPE over the settings, with its study kept beside the trials.

Tree-structured Parzen estimator: Bergstra et al., "Algorithms for hyper-parameter optimization", NIPS 2011,
as in Optuna. Optuna knows no rules, so the nearest point of the space stands for what it proposes.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from cpuserve.errors import MissingExtra
from cpuserve.tune.point_grid import PointGrid
from cpuserve.tune.search import Search
from cpuserve.tune.space import Space

__all__ = ["OptunaSearch"]

_NOTHING_NEW = 100


class OptunaSearch:
    """Measures the points that Optuna proposes; call it with a `Search`.

    The study is kept in Optuna's journal, but the trials of `Search` are what counts: those the study does
    not know are told to it first, and what it was asking when it was ended is given up.

    Args:
        space: the points to choose from.
        file: where the study is kept.

    Raises:
        MissingExtra: Optuna is not installed.
    """

    def __init__(self, space: Space, file: Path) -> None:
        try:
            import optuna  # noqa: PLC0415  # an extra
        except ImportError as error:
            raise MissingExtra("--mode optuna needs Optuna (--mode quick needs nothing)", "tune") from error
        self._optuna = optuna
        self._space, self._grid, self._file = space, PointGrid(space), file

    def __call__(self, search: Search) -> None:
        """Ask until Optuna has proposed nothing new for long, or the limits are reached."""
        study = self._study(search)
        sizes = {knob: len(self._space.values[knob]) for knob in self._grid.knobs}
        distributions = {
            knob: self._optuna.distributions.IntDistribution(0, size - 1) for knob, size in sizes.items()
        }
        told = {trial.user_attrs.get("point") for trial in study.trials}
        for one in search.objective.standings(search.journal.trials):
            if repr(one.point) not in told and one.point in self._space.points:
                steps = dict(zip(self._space.values, self._space.points[one.point], strict=True))
                study.enqueue_trial({knob: steps[knob] for knob in sizes})
        since_new = 0
        while since_new < _NOTHING_NEW:
            asked = study.ask(distributions)
            point = self._grid.nearest(asked.params)
            since_new = since_new + 1 if search.journal.of(point) else 0
            found = search.measure(point)
            asked.set_user_attr("point", repr(point))
            if found is None:
                study.tell(asked, state=self._optuna.trial.TrialState.FAIL)
                continue
            if search.objective.constraints:
                asked.set_constraint("constraints", found.excess)
            study.tell(asked, found.score)

    def _study(self, search: Search) -> Any:
        optuna = self._optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            backend = optuna.storages.journal.JournalFileBackend(str(self._file))
            study = optuna.create_study(
                study_name=f"cpuserve {json.dumps(search.journal.key, sort_keys=True)}",
                storage=optuna.storages.JournalStorage(backend),
                direction="maximize",
                load_if_exists=True,
                # another seed after each break: the same one would propose the same again
                sampler=optuna.samplers.TPESampler(seed=len(search.journal.trials)),
            )
        for trial in study.trials:
            if not trial.state.is_finished():
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        return study
