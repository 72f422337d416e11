"""The rows of the table of settings, in the order the docs show them; it reads and settles none."""

from __future__ import annotations

from pathlib import Path

from cpuserve.setting import Setting

__all__ = ["TABLE"]

TABLE: tuple[Setting, ...] = (
    Setting("model_repository", Path, Path("ir_models"), "Directory of NAME/VERSION/model.xml."),
    Setting(
        "model_name",
        str,
        "",
        "Serve this one model only: the one at model_path, else the repository's of that name.",
    ),
    Setting(
        "model_path",
        str,
        "",
        "Where a model lies that is not in the repository: a directory of versions, one version, or a file.",
        per_model=True,
    ),
    Setting("config_path", str, "", "OpenVINO Model Server's config.json: serve the models it lists."),
    Setting("host", str, "127.0.0.1", "Address to listen on; 0.0.0.0 for every interface."),
    Setting("port", int, 8000, "TCP port to listen on.", minimum=0),
    Setting(
        "workers",
        int,
        None,
        "Worker processes, each in a seat of its own cores; auto: one a core up to 4 cores, else one for 8.",
        minimum=1,
    ),
    Setting("cores_per_worker", int, None, "Physical cores of one seat; auto: see workers.", minimum=1),
    Setting(
        "node_id",
        tuple,
        None,
        "NUMA nodes to sit on, such as 0 or 0,1; auto: every node this process may use.",
        minimum=0,
    ),
    Setting(
        "use_logical_core",
        bool,
        False,
        "Count a thread for each logical CPU of a seat, not for each physical core.",
    ),
    Setting(
        "mode",
        str,
        None,
        "How seats are cut: latency is a seat for every 4 cores, throughput one a node; auto: see workers.",
        choices=("latency", "throughput"),
    ),
    Setting(
        "threads",
        int,
        None,
        "Serving threads of one worker; auto: one for each core of its seat.",
        minimum=1,
    ),
    Setting(
        "decode",
        str,
        "fast",
        "How JPEG is decoded: fast (scaled by the decoder) or exact (every pixel, then resized).",
        choices=("fast", "exact"),
        per_model=True,
    ),
    Setting(
        "precision",
        str,
        "auto",
        "INFERENCE_PRECISION_HINT: auto lets OpenVINO choose (bf16 where the CPU has it), f32 for parity.",
        choices=("auto", "f32", "bf16", "f16"),
        per_model=True,
    ),
    Setting(
        "allow_unvalidated",
        bool,
        False,
        "Serve models that NNCF quantised and whose accuracy nobody recorded; cpuserve quantize records it.",
        per_model=True,
    ),
    Setting(
        "model_version_policy",
        str,
        "latest",
        "Versions served: latest, latest:N, all, specific:1,2, or OpenVINO Model Server's JSON.",
        per_model=True,
    ),
    Setting(
        "file_system_poll_wait_seconds",
        float,
        1.0,
        "Seconds between two looks at the repository; 0 looks only when asked.",
        minimum=0,
    ),
    Setting(
        "plugin_config",
        str,
        "",
        'More properties of OpenVINO\'s CPU plugin as JSON, such as {"ENABLE_MMAP": false}.',
        per_model=True,
    ),
    Setting(
        "cache_dir",
        str,
        "",
        "Directory where OpenVINO keeps compiled models for the next start.",
        per_model=True,
    ),
    Setting(
        "shape",
        str,
        "",
        'Shape to give the input, such as (1,3,224,224) or {"input": "(1,3,224,224)"}; the batch stays free.',
        per_model=True,
    ),
    Setting(
        "layout",
        str,
        "",
        "Layout of the input: NCHW says what the model has, NHWC:NCHW what is sent and what it has.",
        per_model=True,
    ),
    Setting(
        "mean",
        str,
        "",
        "Subtracted from every input value, one number or one a channel, inside the graph: 127.5 or [1,2,3].",
        per_model=True,
    ),
    Setting(
        "scale", str, "", "Divides every input value after mean: one number or one a channel.", per_model=True
    ),
    Setting(
        "color_format",
        str,
        "",
        "Channel order: RGB says what the model has, BGR:RGB what is sent and what it has.",
        per_model=True,
    ),
    Setting(
        "max_batch",
        int,
        8,
        "Largest batch that is compiled (1, 2, 4, 8, ... up to it); requests may hold any number of images.",
        minimum=1,
        per_model=True,
    ),
    Setting(
        "allow_callables",
        bool,
        True,
        "Whether a cut model may have an installed Python function (MODULE:FUNCTION) as head or tail.",
    ),
    Setting(
        "deepdetect_data_root",
        str,
        "",
        "Answer DeepDetect's REST calls, and read the pictures that they name from this directory only.",
    ),
    Setting("max_body_bytes", int, 32 << 20, "Largest request body, in bytes.", minimum=1),
    Setting("max_pixels", int, 32_000_000, "Largest picture, in pixels, read from its header.", minimum=1),
    Setting(
        "queue_size", int, 64, "Requests one worker lets wait for a thread; more are answered 503.", minimum=1
    ),
    Setting(
        "deadline_ms",
        float,
        10_000.0,
        "Milliseconds a request may take; clients may ask for less (X-Request-Timeout-Ms).",
        minimum=1,
    ),
    Setting(
        "rate_limit", float, 0.0, "Requests a second from one client (API key or address); 0: any.", minimum=0
    ),
    Setting("rate_burst", float, 20.0, "Requests one client may send at once under rate_limit.", minimum=1),
    Setting("api_key_file", str, "", "File of API keys, one a line; when given, requests need one of them."),
    Setting("api_key_for_metrics", bool, False, "Whether /metrics needs a key too."),
    Setting(
        "allowed_origins",
        str,
        "",
        "Web pages that browsers let ask this server (CORS): https://a.example,https://b.example or *.",
    ),
    Setting("allowed_methods", str, "GET,POST", "Methods that pages of allowed_origins may use."),
    Setting(
        "allowed_headers",
        str,
        "Authorization,Content-Type,Inference-Header-Content-Length,X-API-Key,X-Request-Timeout-Ms",
        "Headers that pages of allowed_origins may send.",
    ),
    Setting("keep_alive_s", float, 75.0, "Seconds an idle connection is kept open.", minimum=0),
    Setting("request_timeout_s", float, 30.0, "Seconds a client has to send one request.", minimum=0.1),
    Setting("shutdown_timeout_s", float, 30.0, "Seconds a stopping worker has to finish.", minimum=0),
    Setting("log_format", str, "text", "How a line of the log is written.", choices=("text", "json")),
    Setting(
        "log_level",
        str,
        "info",
        "What is logged.",
        choices=("debug", "info", "warning", "error"),
    ),
)
