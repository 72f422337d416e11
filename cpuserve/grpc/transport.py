"""What the gRPC server needs of its worker, and the limits that gRPC itself keeps for it."""

from __future__ import annotations

from collections.abc import Callable

from cpuserve.errors import CpuserveError
from cpuserve.grpc.brief_calls import Submit
from cpuserve.grpc.brief_paths import BriefPaths
from cpuserve.grpc.grpc_call import GrpcCall
from cpuserve.protocols.body_budget import BodyBudget
from cpuserve.protocols.call import Call, Reply
from cpuserve.protocols.client_limits import ClientLimits

__all__ = ["METADATA_BYTES", "MOST_METADATA", "GrpcTransport", "channel_options"]

METADATA_BYTES = 64 << 10
MOST_METADATA = 100
"""What the metadata of a call may be, as HTTP's headers."""

_STREAMS_A_CHANNEL = 256
_SETTINGS_TIMEOUT_MS = 5_000  # of a client: gRPC keeps to these limits once it has said that it knows them
_PING_EVERY_MS = 60_000  # of the server, to find clients that are gone
_PING_TIMEOUT_MS = 20_000
_LEAST_BETWEEN_PINGS_MS = 10_000  # of a client; gRPC itself allows them every 5 minutes


class GrpcTransport:
    """What the gRPC server needs of its worker.

    Args:
        submit: puts a call into the worker's queue.
        submit_quietly: does so for a thread that has another call now; wakes one where it is told to.
        run: runs it in the calling thread, unless it has to wait for others.
        must_wait: tells whether a request would wait for its turn.
        note_refused: counts and logs a request that was refused before that.
        expect_room: raises an error when a request could not wait in the queue whatever it asks for; called
            with the seconds that its client waits before its message is read.
        check: raises an error when a request may not go on; None lets all of them in.
        limits: what a client may take.
        budget: the memory for bodies.
        max_connections: most channels.
        threads: that run requests.
        tell_channels: called with the number of channels that had a call in the last minute.
        count_answer: called with the code of each answer; CANCELLED where the client had gone.
    """

    def __init__(
        self,
        submit: Callable[[GrpcCall], None],
        submit_quietly: Submit,
        run: Callable[[GrpcCall], None],
        must_wait: Callable[[], bool],
        note_refused: Callable[[Call, str, CpuserveError], None],
        expect_room: Callable[[Call, float | None], None],
        check: Callable[[Call], None] | None,
        limits: ClientLimits,
        budget: BodyBudget,
        max_connections: int,
        threads: int,
        tell_channels: Callable[[int], None] = lambda _count: None,
        count_answer: Callable[[str], None] = lambda _code: None,
    ) -> None:
        self.submit = submit
        self.submit_quietly = submit_quietly
        self.run = run
        self.must_wait = must_wait
        self.brief_paths = BriefPaths()
        self.threads = threads
        self.note_refused = note_refused
        self.expect_room = expect_room
        self.check = check
        self.limits = limits
        self.budget = budget
        self.max_connections = max_connections
        self.tell_channels = tell_channels
        self.count_answer = count_answer

    def count(self, reply: Reply) -> None:
        """Count an answer by its code."""
        self.count_answer(reply.refusal.grpc_code if reply.refusal is not None else "OK")


def channel_options(transport: GrpcTransport) -> list[tuple[str, int]]:
    """Options of gRPC, see grpc/impl/channel_arg_names.h."""
    limits = transport.limits
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", limits.max_body_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", _STREAMS_A_CHANNEL),
        # a stream that nobody reads takes 64 KiB: probes of the bandwidth would make it megabytes
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
        ("grpc.http2.settings_timeout", _SETTINGS_TIMEOUT_MS),
        ("grpc.max_allowed_incoming_connections", transport.max_connections),
        ("grpc.max_connection_idle_ms", max(1, round(limits.keep_alive_s * 1000))),
        ("grpc.keepalive_time_ms", _PING_EVERY_MS),
        ("grpc.keepalive_timeout_ms", _PING_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_BETWEEN_PINGS_MS),
        ("grpc.server_handshake_timeout_ms", max(1, round(limits.request_timeout_s * 1000))),
    ]
