"""Finds the model that the replicas of a run have in common."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from cpuserve.errors import CpuserveError
from cpuserve.video.replica import Replica
from cpuserve.video.replica_link import ReplicaBusy, ReplicaFailed, ServedModel

__all__ = ["find_model", "look", "nobody", "take"]

_log = logging.getLogger("cpuserve.video")
_LATE_S = 2.0  # that a start waits for others once one is ready


async def find_model(replicas: Sequence[Replica], model: str, wait_s: float) -> ServedModel:
    """What the first of the replicas serves that says it, in the order they are in.

    All that serve the same may get frames from now on.

    Args:
        replicas: none of them asked yet.
        model: the name it was asked for, for the message.
        wait_s: how long one may take to be ready, seconds.

    Raises:
        CpuserveError: none is in time, or ever will be; the message names each and its reason.
    """
    due, said = time.monotonic() + wait_s, False
    while True:
        models = await _look_at_all(replicas)
        found = next((one for one in models if one is not None), None)
        if found is not None:
            break
        if all(replica.lasting for replica in replicas):
            raise CpuserveError(f"no replica serves {model}: {_reasons(replicas)}")
        if time.monotonic() >= due:
            raise nobody(replicas, model, wait_s)
        if not said:
            _log.warning("waiting up to %g s for replicas of %s: %s", wait_s, model, _reasons(replicas))
            said = True
        await asyncio.sleep(min(1.0, wait_s / 10))
    for replica, served in zip(replicas, models, strict=True):
        if served is not None:
            take(replica, served, found)
        else:
            _log.warning("replica %s gets no frames for now: %s", replica.url, replica.reason)
    return found


async def _look_at_all(replicas: Sequence[Replica]) -> list[ServedModel | None]:
    """What each serves; those that take long once another has said it are looked at again later."""
    looks = [asyncio.ensure_future(look(replica)) for replica in replicas]
    pending = {*looks}
    while pending and not any(one.done() and one.result() is not None for one in looks):
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    if pending:
        _, pending = await asyncio.wait(pending, timeout=_LATE_S)
    for one, replica in zip(looks, replicas, strict=True):
        if one in pending:
            one.cancel()
            replica.left_out(f"it did not say within {_LATE_S:g} s what it serves")
    await asyncio.gather(*pending, return_exceptions=True)
    return [None if one in pending else one.result() for one in looks]


async def look(replica: Replica, *, told: bool = False) -> ServedModel | None:
    """What a replica serves; None if it does not say it, and then it is asked again later.

    Args:
        replica: to be asked.
        told: whether a new reason that waiting does not mend is logged.
    """
    try:
        return await replica.link.model()
    except ReplicaFailed as error:
        if told and error.lasting and replica.reason != str(error):
            _log.warning("replica %s gets no frames: %s", replica.url, error)
        replica.left_out(str(error), lasting=error.lasting)
    except ReplicaBusy as error:
        replica.left_out(str(error))
    return None


def take(replica: Replica, model: ServedModel, wanted: ServedModel) -> None:
    """Let a replica have frames if its model is the one that is wanted; else say why not."""
    if model == wanted:
        if replica.reason:
            _log.warning("replica %s is ready again", replica.url)
        replica.up = True
        return
    if (model.version, model.checksum) == (wanted.version, wanted.checksum):
        reason = "it takes its pictures in another way than the others: its settings differ"
    else:
        reason = f"it serves {model} of {model.name}, and this run uses {wanted}"
    if replica.reason != reason:
        _log.warning("replica %s gets no frames: %s", replica.url, reason)
    replica.left_out(reason)


def nobody(replicas: Sequence[Replica], model: str, wait_s: float) -> CpuserveError:
    """The error of frames that no replica takes."""
    reasons = _reasons(replicas)
    return CpuserveError(f"no replica of {model} was usable for {wait_s:g} s (--replica-wait): {reasons}")


def _reasons(replicas: Sequence[Replica]) -> str:
    return "; ".join(f"{one.url}: {one.reason or 'it has no room'}" for one in replicas)
