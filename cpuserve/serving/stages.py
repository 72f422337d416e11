"""Names of a request's stages and of a server's threads, and the files whose code runs in each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

__all__ = [
    "ADMIN_THREAD",
    "BATCH_WAIT",
    "COUNTED_STAGES",
    "DECODE",
    "GRPC_THREAD",
    "IDLE_FUNCTIONS",
    "INFER",
    "LOADER_THREAD",
    "POST",
    "QUEUE",
    "RESIZE",
    "SAMPLER_THREAD",
    "SERIALISE",
    "SERVING_THREAD",
    "SHADOW_THREAD",
    "STAGES",
    "STAGE_NAMES",
    "THREAD_ROLES",
    "ZMQ_THREAD",
    "Stage",
    "ThreadRole",
    "in_files",
    "stage_of",
]


class Stage(NamedTuple):
    """One stage of a traced request.

    Attributes:
        name: as traces, metrics and profiles show it.
        meaning: what happens in it.
        files: files and folders whose code runs in it, from where they are imported.
        functions: parts of the names of native functions that run in it.
    """

    name: str
    meaning: str
    files: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


STAGES = (
    Stage("queue", "waits for a thread"),
    Stage(
        "decode",
        "bytes to pixels",
        (
            "cpuserve/serving/decode.py",
            "cpuserve/serving/picture_header.py",
            "cpuserve/serving/jpeg.py",
            "cpuserve/serving/jpeg_header.py",
            "cpuserve/serving/tiff_header.py",
            "cpuserve/serving/exif.py",
            "cpuserve/serving/bmp_fields.py",
            "cpuserve/serving/first_image.py",
            "cpuserve/serving/decoder_guard.py",
        ),
        ("jpeg", "imdecode"),
    ),
    Stage(
        "resize",
        "pixels to the model's row",
        ("cpuserve/serving/picture_input.py", "cpuserve/serving/preprocess.py"),
        ("resize",),
    ),
    Stage("batch_wait", "waits for a stream"),
    Stage(
        "infer",
        "OpenVINO",
        ("cpuserve/serving/engine.py", "cpuserve/serving/batcher.py", "openvino/_ov_api.py"),
        ("openvino",),
    ),
    Stage(
        "post",
        "rows to an answer",
        (
            "cpuserve/serving/postprocess/",
            "cpuserve/serving/cut_parts.py",
            "cpuserve/serving/render.py",
        ),
    ),
    Stage(
        "serialise",
        "HTTP in and out",
        (
            "cpuserve/http/",
            "cpuserve/grpc/",
            "cpuserve/zmq/",
            "cpuserve/protocols/",
            "socket.py",
            "selectors.py",
            "threading.py",
        ),
        ("orjson",),
    ),
)
"""All stages of a traced request, in the order in which a picture passes them."""

STAGE_NAMES = tuple(stage.name for stage in STAGES)
QUEUE, DECODE, RESIZE, BATCH_WAIT, INFER, POST, SERIALISE = range(len(STAGES))

COUNTED_STAGES = ("decode", "queue", "infer", "post")
"""Stages that are counted for every request: ``decode`` includes the resize, ``queue`` the batch wait."""

IDLE_FUNCTIONS = (
    ("cpuserve/http/worker.py", ("run",)),
    ("cpuserve/http/request_loop.py", ("_turn",)),
    ("cpuserve/grpc/core.py", ("take_event",)),
    ("cpuserve/serving/batcher.py", ("wait",)),
    ("zmq/sugar/poll.py", ("poll",)),
    ("gunicorn/arbiter.py", ("wait_for_signals",)),
    ("threading.py", ("wait", "_wait_for_tstate_lock")),
    ("selectors.py", ("select",)),
)
"""Functions that are innermost in a thread that has nothing to do, by file."""


class ThreadRole(NamedTuple):
    """The role of the threads whose names begin alike.

    Attributes:
        prefix: how their names begin.
        role: ``serve`` runs requests, ``admin`` anything else.
        infers: whether OpenVINO's threads begin in one of them, and so inherit its name.
    """

    prefix: str
    role: str
    infers: bool = False


SERVING_THREAD, LOADER_THREAD, ADMIN_THREAD, SAMPLER_THREAD = "serve-", "models", "admin", "stacks"
GRPC_THREAD, ZMQ_THREAD, SHADOW_THREAD = "grpc", "zmq", "shadow"

THREAD_ROLES = (
    ThreadRole(SERVING_THREAD, "serve", infers=True),
    ThreadRole(LOADER_THREAD, "admin", infers=True),
    ThreadRole(ADMIN_THREAD, "admin"),
    ThreadRole(SAMPLER_THREAD, "admin"),
    ThreadRole(GRPC_THREAD, "serve", infers=True),
    ThreadRole(ZMQ_THREAD, "admin"),
    ThreadRole(SHADOW_THREAD, "admin", infers=True),
)
"""The named threads of a worker; the main one accepts connections."""


def in_files(files: Iterable[str]) -> str:
    """A regular expression for stack frames, ``name (file.py``, of functions in these files or folders.

    Frames may have a file's name without its folders.
    """
    names = (PurePosixPath(file).name for file in files)
    known = (f"/{name}/" if "." not in name else f"[(/]{re.escape(name)}" for name in names)
    return "|".join(known)


_FRAMES = [
    (stage.name, re.compile("|".join([in_files(stage.files), *stage.functions])))
    for stage in STAGES
    if stage.files
]


def stage_of(frame: str) -> str | None:
    """The stage in which a frame's function runs, or None for one whose file is not in `STAGES`.

    Args:
        frame: ``name (file.py)``, with a line number or without.
    """
    return next((name for name, words in _FRAMES if words.search(frame)), None)
