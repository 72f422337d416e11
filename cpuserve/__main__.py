"""The program `cpuserve`, also as `python -m cpuserve`."""

import sys
from typing import Any

__all__ = ["main"]

_INTERRUPTED = 130


def main() -> Any:
    """Run the command. Ctrl-C that comes while its modules are still loaded ends it as later on."""
    try:
        from cpuserve.cli import main as run  # noqa: PLC0415  # the import is what may be interrupted
    except KeyboardInterrupt:
        sys.stderr.write("cpuserve: ended by Ctrl-C\n")
        sys.exit(_INTERRUPTED)
    return run()


if __name__ == "__main__":
    main()
