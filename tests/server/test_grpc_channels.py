"""The log says when gRPC channels reach some of the workers only."""

from __future__ import annotations

import os

import pytest

from cpuserve.server.grpc_channels import GrpcChannels
from cpuserve.serving.worker_table import LOADING, READY, WorkerTable


@pytest.fixture
def rows():
    """A table of two seats, and the rows of their ready workers."""
    table = WorkerTable(2)
    found = []
    for seat in range(2):
        row = table.assign(seat)
        row.state, row.pid = READY, os.getpid()
        found.append(row)
    return table, *found


def said(caplog):
    return [record.getMessage() for record in caplog.records]


def told(channels, clock, seconds, count):
    for _ in range(seconds):
        clock[0] += 1
        channels.tell(count)


def test_one_line_when_a_worker_stays_without_a_channel(rows, caplog):
    table, first, second = rows
    clock = [0.0]
    ours, theirs = (GrpcChannels(table, row, lambda: clock[0]) for row in (first, second))
    told(ours, clock, 9, 0)
    told(ours, clock, 9, 3)
    assert said(caplog) == []  # clients may still be opening theirs
    told(theirs, clock, 60, 0)
    told(ours, clock, 60, 3)
    assert said(caplog) == [
        "gRPC: 3 channels were used in the last minute, 1 of 2 workers have none: a channel lives in one "
        "worker: let clients open several for each and take them in turns (docs/protocols.md, gRPC)"
    ]
    assert first.grpc_channels == 3
    told(theirs, clock, 1, 1)
    told(ours, clock, 60, 3)
    assert len(said(caplog)) == 1
    told(theirs, clock, 1, 0)
    told(ours, clock, 60, 3)
    assert len(said(caplog)) == 2  # it was right meanwhile


def test_only_one_of_the_workers_says_it_and_only_of_ready_ones(rows, caplog):
    table, first, second = rows
    third = table.assign(0)
    assert third.state == LOADING
    clock = [0.0]
    ours, theirs = (GrpcChannels(table, row, lambda: clock[0]) for row in (first, second))
    for _ in range(30):
        told(ours, clock, 1, 1)
        told(theirs, clock, 1, 1)
    assert said(caplog) == []
    third.state = READY
    for _ in range(30):
        told(ours, clock, 1, 1)
        told(theirs, clock, 1, 1)
    assert len(said(caplog)) == 1
    assert "1 of 3 workers have none" in said(caplog)[0]


def test_the_row_of_another_worker_is_left_alone(rows):
    table, first, _ = rows
    first.pid = os.getpid() + 1
    GrpcChannels(table, first).tell(5)
    assert first.grpc_channels == 0
