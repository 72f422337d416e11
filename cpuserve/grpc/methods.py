"""The table of all gRPC methods."""

from __future__ import annotations

from collections.abc import Sequence

from cpuserve.grpc.health import HealthService
from cpuserve.grpc.inference import InferenceService
from cpuserve.grpc.method import Method
from cpuserve.grpc.reflection import ReflectionService
from cpuserve.grpc.tensorflow_serving import TensorFlowService
from cpuserve.protocols.admin import Admin
from cpuserve.protocols.shared_memory import SharedMemory
from cpuserve.serving.pool import Pool

__all__ = ["all_methods"]


def all_methods(pool: Pool, admin: Admin, shared_memory: SharedMemory | None) -> Sequence[Method]:
    """Every method of the server, over one worker's models.

    Args:
        pool: the models.
        admin: answers for the log and trace settings.
        shared_memory: of the server; None where there is none.
    """
    inference, tensorflow = InferenceService(pool, admin, shared_memory), TensorFlowService(pool)
    services = (inference.service, *tensorflow.services)
    health = HealthService(pool, (*services, *ReflectionService.services))
    reflection = ReflectionService((*services, health.service))
    return [method for one in (inference, tensorflow, health, reflection) for method in one.methods()]
