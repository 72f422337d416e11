"""The disk is not waited for, which takes longer than all else here."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def disk_that_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
