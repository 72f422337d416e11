import json

import pytest

from cpuserve.errors import UsageError
from cpuserve.models.versions import VersionPolicy


@pytest.mark.parametrize(
    ("text", "count", "candidates"),
    [
        ("latest", 1, [9, 3, 2, 1]),
        ("latest:2", 2, [9, 3, 2, 1]),
        ("all", None, [9, 3, 2, 1]),
        ("specific:2,9,7", None, [9, 2]),
        ('{"latest": {"num_versions": 3}}', 3, [9, 3, 2, 1]),
        ('{"all": {}}', None, [9, 3, 2, 1]),
        ('{"specific": {"versions": [1, 3]}}', None, [3, 1]),
    ],
)
def test_policies_in_short_and_in_ovms_words(text, count, candidates):
    policy = VersionPolicy.parse(text)
    assert (policy.count, policy.candidates([1, 2, 3, 9])) == (count, candidates)
    assert policy.newest([1, 2, 3, 9]) == candidates[0]
    assert policy.newest([]) is None
    assert VersionPolicy.parse(json.dumps(policy.document())) == policy


@pytest.mark.parametrize(
    "text", ["", "newest", "latest:0", "specific:", "specific:a", "{", '{"all": {}, "latest": 1}']
)
def test_what_is_no_policy_is_refused_with_those_there_are(text):
    with pytest.raises(UsageError, match="specific:1,2"):
        VersionPolicy.parse(text)
