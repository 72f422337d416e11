"""Says which of the names of an input or output is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino as ov

__all__ = ["names_of"]

_END = "/sink_port_0"  # what importers put behind the name of an output


def names_of(port: ov.Output) -> list[str]:
    """All names of an input or output, the one to show first; never empty.

    Importers call the end of a graph after the output of the source, and transformations add names of tensors
    inside; where no name is that one, the shortest is shown.
    """
    node = port.get_node()
    own = node.get_friendly_name().removesuffix(_END)
    return sorted(port.get_names(), key=lambda name: (name != own, len(name), name)) or [
        node.get_friendly_name()
    ]
