"""Runs a fuzz target: `python -m tests.fuzz TARGET -max_total_time=600 [FOLDER]` (needs atheris).

Without a folder the inputs that are kept go to `tests/fuzz/corpus/TARGET`; its seeds are written first.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    name, *options = sys.argv[1:]
    atheris: Any = importlib.import_module("atheris")  # not among the tests' requirements
    with atheris.instrument_imports(include=["cpuserve", "werkzeug"]):
        target = importlib.import_module(f"tests.fuzz.fuzz_{name}")
    folders = [option for option in options if not option.startswith("-")]
    folder = Path(folders[0]) if folders else CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (folder / f"seed-{number:02d}").write_bytes(seed)
    words: dict[str, Any] = {}
    if hasattr(target, "mutate"):  # it knows the structure of its inputs
        words["custom_mutator"] = lambda data, most, seed: target.mutate(data, most, seed, atheris.Mutate)
    atheris.Setup([sys.argv[0], *options, *([] if folders else [str(folder)])], target.one, **words)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
