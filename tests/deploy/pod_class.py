"""Says as the kubelet does which class of service a pod has, and which containers get CPUs of their own."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

__all__ = ["exclusive_cpus", "quantity", "service_class"]

_COUNTED = ("cpu", "memory")
_UNITS = {
    **{"m": Decimal("0.001"), "": Decimal(1)},
    **{unit: Decimal(1000) ** (power + 1) for power, unit in enumerate(("k", "M", "G", "T"))},
    **{unit: Decimal(1024) ** (power + 1) for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"))},
}

Amounts = dict[str, Decimal]


def quantity(written: str | float) -> Decimal:
    """``500m`` -> 0.5, ``4Gi`` -> 4294967296.

    Raises:
        KeyError: The unit is unknown.
    """
    text = str(written)
    number = text.rstrip("kKMGTim")
    return Decimal(number) * _UNITS[text[len(number) :]]


def service_class(pod: Mapping[str, Any]) -> str:
    """``Guaranteed``, ``Burstable`` or ``BestEffort`` for the ``spec`` of a pod, init containers counted too.

    Resources of the pod as a whole, where it has any, stand in place of those of its containers.
    """
    if pod.get("resources"):
        limits, requests = _amounts(pod)
        return _class(requests, limits, complete=limits.keys() == set(_COUNTED))
    total_requests: Amounts = {}
    total_limits: Amounts = {}
    complete = True
    for container in [*pod["containers"], *pod.get("initContainers", ())]:
        limits, requests = _amounts(container)
        complete = complete and limits.keys() == set(_COUNTED)
        for total, part in ((total_requests, requests), (total_limits, limits)):
            for name, amount in part.items():
                total[name] = total.get(name, Decimal()) + amount
    return _class(total_requests, total_limits, complete=complete)


def exclusive_cpus(pod: Mapping[str, Any]) -> dict[str, int]:
    """CPUs of its own that the static CPU manager gives each container, by its name."""
    if service_class(pod) != "Guaranteed":
        return {}
    asked = {one["name"]: _amounts(one)[1].get("cpu", Decimal()) for one in pod["containers"]}
    return {name: int(cpus) for name, cpus in asked.items() if cpus and cpus == int(cpus)}


def _class(requests: Amounts, limits: Amounts, *, complete: bool) -> str:
    if not requests and not limits:
        return "BestEffort"
    return "Guaranteed" if complete and requests == limits else "Burstable"


def _amounts(described: Mapping[str, Any]) -> tuple[Amounts, Amounts]:
    """(limits, requests) above 0; a request that is not given is its limit."""
    resources = described.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    return _positive(limits), _positive({**limits, **requests})


def _positive(amounts: Mapping[str, Any]) -> Amounts:
    read = {name: quantity(amounts[name]) for name in _COUNTED if name in amounts}
    return {name: amount for name, amount in read.items() if amount > 0}
