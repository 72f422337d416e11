"""Logistic regression agrees with scikit-learn's, and separable classes do not make it overflow."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from cpuserve.video.logistic import Logistic, fit_logistic


def made(count: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    labels = random.random(count) < 0.2
    features = random.normal(0, 1, (count, 4)) * [1, 10, 0.1, 3] + np.outer(
        labels, [shift, 0, -0.1 * shift, 0]
    )
    return features, labels


def test_probabilities_are_those_of_scikit_learn():
    features, labels = made(600, 1.5)
    own = fit_logistic(features, labels, ridge=1.0).probability(features)
    scaled = StandardScaler().fit_transform(features)
    other = LogisticRegression(C=1.0, class_weight="balanced", max_iter=1000, tol=1e-10).fit(scaled, labels)
    assert np.abs(own - other.predict_proba(scaled)[:, 1]).max() < 1e-4


def test_classes_that_one_feature_tells_apart_have_finite_weights():
    features, labels = made(200, 0)
    features[:, 0] = np.where(labels, 1e6, -1e6)
    features[:, 1] = 3.0  # says nothing
    fitted = fit_logistic(features, labels)
    assert np.isfinite(fitted.weights).all()
    found = fitted.probability(features)
    assert found[labels].min() > 0.9
    assert found[~labels].max() < 0.1


def test_arrays_make_the_same_one_again():
    features, labels = made(100, 1)
    fitted = fit_logistic(features, labels)
    again = Logistic.of_state(fitted.state())
    assert np.array_equal(again.probability(features), fitted.probability(features))


@pytest.mark.parametrize("value", [True, False])
def test_one_class_alone_is_refused(value):
    with pytest.raises(ValueError, match=r"of 5 frames are of the second class: both are needed"):
        fit_logistic(np.zeros((5, 2)), np.full(5, value))
