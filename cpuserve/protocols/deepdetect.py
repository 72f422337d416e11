"""The routes of DeepDetect's REST API that its benchmark client calls."""

from __future__ import annotations

import functools
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import cpuserve
from cpuserve.errors import BodyTooLarge, CpuserveError, RequestError, UnknownModel
from cpuserve.protocols.base64_text import decode_base64
from cpuserve.protocols.call import Call, Handler, Reply, check_pictures, json_reply
from cpuserve.protocols.deepdetect_names import DeepDetectNames
from cpuserve.serving.picture_header import is_picture
from cpuserve.serving.pipeline import Pipeline
from cpuserve.serving.pool import Pool

__all__ = ["DeepDetect"]

_LONGEST_PATH = 4096  # PATH_MAX
_MOST_NAME = 256
_MESSAGES = {200: "OK", 201: "Created", 400: "BadRequest", 403: "Forbidden", 404: "NotFound"}
# what DeepDetect's own codes are called
_NO_DATA, _NO_SERVICE, _BAD_INPUT, _BAD_REQUEST = 1001, 1002, 1005, 1006
_SAID = {
    _NO_DATA: "No Data",
    _NO_SERVICE: "Service Not Found",
    _BAD_INPUT: "Service Input Error",
    _BAD_REQUEST: "Service Bad Request Error",
}


class DeepDetect:
    """The routes over one worker's models.

    Args:
        pool: the models of the worker that answers.
        services: other names that clients gave to models.
        root: the only directory that pictures named in a request are read from.
    """

    def __init__(self, pool: Pool, services: DeepDetectNames, root: Path) -> None:
        self._pool = pool
        self._services = services
        self._root = root.resolve()

    def info(self, _call: Call) -> Reply:
        """``GET /info``: version and services."""
        services = [
            {"name": name, "mllib": "openvino", "description": model, "predict": True}
            for name in sorted({*self._pool.models, *self._services.names()})
            if (model := self._services.model(name) or name)
        ]
        head = {"method": "/info", "version": cpuserve.__version__, "services": services}
        return json_reply({"status": _status(200), "head": head})

    def create(self, call: Call, service: str) -> Reply:
        """``PUT`` or ``POST /services/NAME``: gives a served model a second name.

        The model is that of the service's name, else the one that ``model.repository`` ends in.
        """
        model = service
        if self._pool.own_name(service) not in self._pool.models:
            stated = call.document().get("model")
            repository = stated.get("repository") if isinstance(stated, dict) else None
            if not isinstance(repository, str) or not repository:
                raise _Refusal(_BAD_REQUEST, "model.repository does not say which model the service is")
            model = PurePosixPath(repository).name
            self._pipeline(model)
            self._services.put(service, model)
        return json_reply({"status": _status(201)}, 201)

    def service(self, _call: Call, service: str) -> Reply:
        """``GET /services/NAME``: its model and counters."""
        pipeline = self._pipeline(service)
        totals = self._pool.statistics.totals(pipeline.name, pipeline.version)
        predictions, predict_ns = totals.duration("request")
        transforms, transform_ns = totals.duration("decode")
        failures = totals["fail_request_count"]
        statistics = {
            "inference_count": totals["images"],
            "predict_success": predictions,
            "predict_failure": failures,
            "predict_count": predictions + failures,
            "avg_batch_size": totals["images"] / max(1, predictions),
            "avg_predict_duration_ms": predict_ns / 1e6 / max(1, predictions),
            "avg_transform_duration_ms": transform_ns / 1e6 / max(1, transforms),
            "total_predict_duration_ms": predict_ns / 1e6,
            "total_transform_duration_ms": transform_ns / 1e6,
        }
        body = {
            "name": service,
            "description": pipeline.card.description,
            "mllib": "openvino",
            "type": "supervised",
            "service_stats": statistics,
        }
        return json_reply({"status": _status(200), "body": body})

    def delete(self, _call: Call, service: str) -> Reply:
        """``DELETE /services/NAME``: removes the second name; the model stays."""
        if not self._services.drop(service):
            self._pipeline(service)
        return json_reply({"status": _status(200)})

    def predict(self, call: Call) -> Reply:
        """``POST /predict``: the classes of pictures named by path, or sent as base64."""
        began = time.perf_counter()
        document = call.document()
        service, data = document.get("service"), document.get("data")
        if not isinstance(service, str):
            raise _Refusal(_NO_SERVICE, "the request names no service")
        pipeline = self._pool.pick(self._pipeline(service).name, None, call.headers)
        if not isinstance(data, list) or not data or not all(isinstance(each, str) for each in data):
            raise _Refusal(_NO_DATA, "data is a list of paths or base64 texts, at least one")
        check_pictures(len(data), call.limits.max_pictures)
        wanted = _output(document)
        pictures = _Pictures([self._picture(each) for each in data], call.limits.max_body_bytes)
        topk = wanted.get("best")
        if topk is not None and (not isinstance(topk, int) or isinstance(topk, bool)):
            raise _Refusal(_BAD_REQUEST, f"parameters.output.best is {topk!r:.80}, not a number of classes")
        answers = pipeline.predict_all(pictures, call.request(), topk)
        predictions = [
            {"uri": uri if len(uri) < _LONGEST_PATH else str(place), **_classes(answer, wanted)}
            for place, (uri, answer) in enumerate(zip(data, answers, strict=True))
        ]
        milliseconds = (time.perf_counter() - began) * 1000
        head = {"method": "/predict", "service": service, "time": round(milliseconds, 3)}
        return json_reply({"status": _status(200), "head": head, "body": {"predictions": predictions}})

    def guarded(self, handler: Callable[..., Reply]) -> Handler:
        """Wrap a handler so that its refusals have DeepDetect's form."""

        @functools.wraps(handler)
        def guard(call: Call, *words: str) -> Reply:
            try:
                return handler(call, *words)
            except UnknownModel as error:
                return _refused(404, _NO_SERVICE, str(error))
            except _Refusal as error:
                return _refused(404 if error.code == _NO_SERVICE else error.status, error.code, str(error))
            except CpuserveError as error:
                if not isinstance(error, RequestError):
                    raise  # it was made for those who run the server
                return _refused(error.status, _BAD_INPUT, str(error))

        return guard

    def _pipeline(self, service: str) -> Pipeline:
        if len(service) > _MOST_NAME:
            raise UnknownModel(f"there is no service {service[:40]!r}...: names are shorter")
        return self._pool.get(self._services.model(service) or service)

    def _picture(self, text: str) -> bytes | Path:
        """The file that a text names, or the picture that it holds as base64.

        Raises:
            RequestError: it is neither.
        """
        if text.startswith(("http://", "https://")):
            raise _Refusal(_BAD_INPUT, "pictures are not fetched from URLs; send a path or base64")
        file = self._file(text)
        if file is not None:
            return file
        try:
            picture = decode_base64(text)
            # a short text that is nearly base64 may be the name of a file that is not there
            is_sure = len(text) >= _LONGEST_PATH or is_picture(memoryview(picture))
            return picture if is_sure else b64decode(text, validate=True)
        except ValueError:  # of binascii, and for text that is not ASCII
            raise _Refusal(
                _BAD_INPUT,
                f"{text[:200]!r} is neither a picture below deepdetect_data_root nor base64",
            ) from None

    def _file(self, text: str) -> Path | None:
        """The file below the root that a text names; None where there is none."""
        if len(text) >= _LONGEST_PATH:
            return None
        try:
            file = (self._root / text).resolve()
            return file if file.is_relative_to(self._root) and file.is_file() else None
        except (OSError, RuntimeError, ValueError):  # a part too long, a circle of links, a NUL
            return None


class _Pictures(Sequence[bytes]):
    """The pictures of a request; a file is read when its picture is asked for."""

    def __init__(self, found: Sequence[bytes | Path], most_bytes: int) -> None:
        self._found = found
        self._most = most_bytes

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, place: Any) -> Any:
        """The bytes of one picture.

        Raises:
            RequestError: its file cannot be read.
            BodyTooLarge: its file is larger than a body may be.
        """
        found = self._found[place]
        if not isinstance(found, Path):
            return found
        try:
            with found.open("rb") as file:
                data = file.read(self._most + 1)
        except OSError as error:
            raise RequestError(f"{found.name} cannot be read: {error.strerror}") from None
        if len(data) > self._most:
            raise BodyTooLarge(
                f"{found.name} has more bytes than a picture may: {self._most} (setting max_body_bytes)"
            )
        return data


class _Refusal(RequestError):
    """A refusal with DeepDetect's code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def _status(code: int) -> dict[str, Any]:
    return {"code": code, "msg": _MESSAGES.get(code, "Error")}


def _refused(status: int, code: int, text: str) -> Reply:
    said = _status(status) | {"dd_code": code, "dd_msg": f"{_SAID[code]}: {text}"}
    return json_reply({"status": said}, status)


def _output(document: dict[str, Any]) -> dict[str, Any]:
    parameters = document.get("parameters") or {}
    output = parameters.get("output") if isinstance(parameters, dict) else None
    return output if isinstance(output, dict) else {}


def _classes(answer: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """One prediction: its classes, best first, boxes where there are some."""
    least = wanted.get("confidence_threshold")
    least = least if isinstance(least, int | float) else 0.0
    found: list[dict[str, Any]] = []
    entries = next((part for part in answer.values() if isinstance(part, list)), None)
    if entries is None:  # a text that was read
        entries = [{"label": answer["text"], "probability": answer["probability"]}]
    for entry in entries:
        probability = entry.get("probability", entry.get("area"))
        if probability is None or probability < least:
            continue
        one = {"cat": entry["label"], "prob": probability}
        if "box" in entry:
            one["bbox"] = dict(zip(("xmin", "ymin", "xmax", "ymax"), entry["box"], strict=True))
        found.append(one)
    if found:
        found[-1]["last"] = True
    return {"classes": found}
