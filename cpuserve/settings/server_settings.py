"""The settings of the whole server: its address, seats, limits, keys and log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cpuserve.settings.setting import Group

__all__ = ["ServerSettings"]


@dataclass(frozen=True)
class ServerSettings:
    """The settings that hold for the server, whatever it serves."""

    host: str = Group.NETWORK.setting(
        "127.0.0.1", "Address to listen on; 0.0.0.0 listens on every interface.", ovms="rest_bind_address"
    )
    port: int = Group.NETWORK.setting(
        8000, "TCP port to listen on.", minimum=0, maximum=65535, ovms="rest_port"
    )
    grpc_port: int = Group.NETWORK.setting(
        0, "TCP port to answer gRPC on; 0 answers none. It needs the extra grpc.", minimum=0, maximum=65535
    )
    max_connections: int = Group.NETWORK.setting(
        1000,
        "Most open connections of one worker. A further one closes the connection that has been idle "
        "longest, or is answered 503 if none is idle.",
        minimum=1,
    )
    keep_alive_s: float = Group.NETWORK.setting(
        75.0, "Seconds after which an idle connection is closed.", minimum=0
    )
    request_timeout_s: float = Group.NETWORK.setting(
        30.0, "Seconds a client has to send one request.", minimum=0.1
    )
    shutdown_timeout_s: float = Group.NETWORK.setting(
        30.0, "Seconds a worker has to finish its requests when it is stopped.", minimum=0
    )
    deepdetect_data_root: str = Group.NETWORK.setting(
        "",
        "Also answer DeepDetect's REST calls. Pictures they name by path are read from this directory only.",
    )
    deepstack: str = Group.NETWORK.setting(
        "",
        "Model that also answers DeepStack's POST /v1/vision/detection, as Frigate and the clients of "
        "CodeProject.AI ask for objects.",
        metavar="MODEL",
    )
    zmq_endpoint: str = Group.NETWORK.setting(
        "",
        "Where to answer Frigate's detector zmq, such as tcp://0.0.0.0:5555 or ipc:///run/detector; with "
        "commas between an endpoint for each worker. It needs zmq_model and the extra frigate.",
        metavar="ENDPOINT",
    )
    zmq_model: str = Group.NETWORK.setting(
        "", "Model that answers at zmq_endpoint, whatever Frigate's own is called.", metavar="MODEL"
    )

    workers: int | None = Group.SEATS.setting(
        None,
        "Number of worker processes. Each has a seat: cores that no other worker uses. "
        "auto: one worker a core up to 4 cores, above that one for every 8 cores.",
        minimum=1,
    )
    cores_per_worker: int | None = Group.SEATS.setting(
        None, "Physical cores of one seat; auto follows from workers.", minimum=1
    )
    node_id: tuple[int, ...] | None = Group.SEATS.setting(
        None, "NUMA nodes to use, such as 0 or 0,1; auto: all that are allowed.", minimum=0
    )
    use_logical_core: bool = Group.SEATS.setting(
        False, "Run one thread for each logical CPU of a seat instead of one for each core."
    )
    mode: Literal["latency", "throughput"] | None = Group.SEATS.setting(
        None,
        "Size of the seats: latency is 4 cores, throughput a whole NUMA node; auto follows from workers.",
    )
    threads: int | None = Group.SEATS.setting(
        None, "Threads of one worker that serve requests; auto: one for each core.", minimum=1
    )
    allocator: Literal["none", "auto", "jemalloc", "tcmalloc"] = Group.SEATS.setting(
        "none",
        "Memory allocator, loaded by LD_PRELOAD: auto takes jemalloc if it is installed, else tcmalloc; "
        "none keeps the C library's.",
    )
    preset: str = Group.SEATS.setting(
        "auto",
        "Tuned settings to apply: auto takes for each model the preset in tuning_dir that fits best, off "
        "takes none, anything else is the file of a preset.",
        formerly="profile",
        metavar="auto|off|FILE",
    )
    tuning_dir: Path = Group.SEATS.setting(
        Path("tuning"), "Directory of the presets that cpuserve tune wrote, by machine."
    )

    max_body_bytes: int = Group.LIMITS.setting(32 << 20, "Largest request body, in bytes.", minimum=1)
    max_unfinished_body_bytes: int = Group.LIMITS.setting(
        256 << 20,
        "Most bytes of request bodies, after decompression, that one worker holds for unanswered requests; "
        "above it requests are answered 503. Never less than four times max_body_bytes.",
        minimum=1,
    )
    max_json_elements: int = Group.LIMITS.setting(
        2_000_000, "Most values in a JSON body; they are counted before parsing.", minimum=1
    )
    max_answer_bytes: int = Group.LIMITS.setting(
        256 << 20, "Most bytes of output tensors of one request.", minimum=1
    )
    max_pictures: int = Group.LIMITS.setting(1024, "Most pictures in one request.", minimum=1)
    max_pixels: int = Group.LIMITS.setting(
        32_000_000, "Most pixels of one picture, by its header.", minimum=1
    )
    max_jpeg_scan_pixels: int = Group.LIMITS.setting(
        640_000_000,
        "Most pixels times scans of a progressive JPEG. A usual photo has about 10 scans.",
        minimum=1,
    )
    queue_size: int = Group.LIMITS.setting(
        64, "Requests that may wait for a thread in one worker; further ones are answered 503.", minimum=1
    )
    deadline_ms: float = Group.LIMITS.setting(
        10_000.0,
        "Milliseconds a request may take; clients may ask for less with X-Request-Timeout-Ms.",
        minimum=1,
    )
    rate_limit: float = Group.LIMITS.setting(
        0.0, "Requests a second from one client, told apart by API key or address; 0 is no limit.", minimum=0
    )
    rate_burst: float = Group.LIMITS.setting(
        20.0, "Requests one client may send at once under rate_limit.", minimum=1
    )

    api_key_file: str = Group.SECURITY.setting(
        "", "File of API keys, one a line. With it requests need one of the keys.", metavar="FILE"
    )
    trusted_proxies: str = Group.SECURITY.setting(
        "",
        "Addresses and networks of proxies, such as 10.0.0.5,192.168.0.0/16, whose X-Forwarded-For tells the "
        "client that rate_limit counts and access_log names.",
        metavar="LIST",
    )
    api_key_for_metrics: bool = Group.SECURITY.setting(False, "Ask for an API key on /metrics too.")
    grpc_certificate: str = Group.SECURITY.setting(
        "",
        "PEM file of the certificates by which gRPC is encrypted (TLS), the server's first; SIGHUP reads it "
        "again. HTTP has no TLS: put a proxy in front.",
        metavar="FILE",
    )
    grpc_key: str = Group.SECURITY.setting(
        "", "PEM file of the key of grpc_certificate, without a password.", metavar="FILE"
    )
    grpc_client_ca: str = Group.SECURITY.setting(
        "",
        "PEM file of authorities: clients of gRPC must show a certificate that one of them has signed.",
        metavar="FILE",
    )
    shared_memory_prefix: str = Group.SECURITY.setting(
        "",
        "How the names of shared memory begin in which clients may send and get tensors, several with commas "
        "between; none allows none.",
    )
    priority_from: Literal["anyone", "keys", "nobody"] = Group.SECURITY.setting(
        "keys", "Clients whose X-Request-Priority is obeyed: keys are those with a key of api_key_file."
    )
    guarded_decoding: Literal["none", "rare", "all"] = Group.SECURITY.setting(
        "rare",
        "Formats decoded in separate processes, where a crash of the decoder costs one request: rare is "
        "WebP, GIF, TIFF and BMP.",
    )
    decode_timeout_ms: float = Group.SECURITY.setting(
        5_000.0,
        "Milliseconds a picture may take in a process of guarded_decoding before that process is killed.",
        minimum=1,
    )
    allow_callables: bool = Group.SECURITY.setting(
        False, "Allow cut models to run an installed Python function (MODULE:FUNCTION) as head or tail."
    )
    allowed_origins: str = Group.SECURITY.setting(
        "",
        "Web pages whose scripts may call this server (CORS), such as https://a.example,https://b.example, "
        "or * for all.",
    )
    allowed_methods: str = Group.SECURITY.setting(
        "GET,POST", "Methods that pages of allowed_origins may use."
    )
    allowed_headers: str = Group.SECURITY.setting(
        "Authorization,Content-Type,Inference-Header-Content-Length,X-API-Key,X-Request-Timeout-Ms",
        "Headers that pages of allowed_origins may send.",
    )

    access_log: str = Group.LOGGING.setting(
        "",
        "File that gets a line for each answer, - for standard output; SIGHUP opens it anew. log_format json "
        "writes objects.",
        metavar="FILE",
    )
    log_format: Literal["text", "json"] = Group.LOGGING.setting("text", "Format of a line of the log.")
    log_level: Literal["debug", "info", "warning", "error"] = Group.LOGGING.setting(
        "info", "Least severe messages that are logged."
    )
    otel_endpoint: str = Group.LOGGING.setting(
        "",
        "OpenTelemetry collector, such as http://127.0.0.1:4318. It gets spans of the requests whose "
        "traceparent header says that the caller records.",
    )
