import pytest

from cpuserve.errors import QueueFull
from cpuserve.serving.admission import Admission


def test_a_refusal_names_the_limit_and_when_to_come_back():
    admission = Admission(queue_size=10, threads=2)
    for _ in range(200):
        admission.served(0.5)
    admission.admit(9)
    with pytest.raises(QueueFull, match=r"10 requests.*10.*queue_size") as caught:
        admission.admit(10)
    assert caught.value.retry_after_s == pytest.approx(2.5, rel=0.01)
    assert caught.value.status == 503
