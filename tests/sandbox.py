"""A seccomp filter, as container engines install one, for the tests of what a sandbox refuses."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

__all__ = ["MEMORY_POLICIES", "SET_MEMPOLICY", "refuse"]

MEMORY_POLICIES = {"x86_64": (237, 238, 239), "aarch64": (235, 237, 236)}.get(platform.machine(), (0, 0, 0))
"""The numbers of mbind, set_mempolicy and get_mempolicy, 0 where they are not written down here."""

SET_MEMPOLICY = MEMORY_POLICIES[1]

_PR_SET_SECCOMP, _FILTER_MODE, _PR_SET_NO_NEW_PRIVS = 22, 2, 38


def refuse(number: int, code: int) -> None:
    """Let a system call fail with ``code`` in this process and all it starts; there is no way back."""
    # load the call's number; is it the one? then fail with the code, else allow
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | code), (0x06, 0, 0, 0x7FFF0000)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))

    class Program(ctypes.Structure):
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    libc = ctypes.CDLL(None, use_errno=True)
    one = Program(len(steps), ctypes.addressof(program))
    for words in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(one), 0, 0),
    ):
        if libc.prctl(*words) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
