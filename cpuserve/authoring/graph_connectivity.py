"""Which tensors hold a graph together and what leaks past a cut; it knows no framework, changes no graph."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Connectivity", "Division", "Tensor"]

Tensor = tuple[int, int]  # (node, which of its outputs)


@dataclass(frozen=True)
class Division:
    """The nodes of a graph that is cut in three, and why it cannot be cut so.

    Attributes:
        head: nodes before the cut's inputs.
        core: nodes between its inputs and its outputs.
        tail: nodes behind its outputs.
        into_core: tensors that reach the core beside the cut's inputs.
        into_tail: tensors that reach the tail beside the cut's outputs.
        unused: inputs of the cut that its outputs do not need.
    """

    head: frozenset[int]
    core: frozenset[int]
    tail: frozenset[int]
    into_core: tuple[Tensor, ...]
    into_tail: tuple[Tensor, ...]
    unused: tuple[Tensor, ...]


@dataclass(frozen=True)
class Connectivity:
    """Who reads which tensor; what does not depend on the graph's inputs is left out.

    Attributes:
        reads: the tensors each node reads, nodes in topological order; a constant reads none.
        inputs: nodes that are the graph's inputs.
        outputs: nodes that end the graph; nobody reads them.
    """

    reads: Sequence[tuple[Tensor, ...]]
    inputs: frozenset[int]
    outputs: tuple[int, ...]

    def articulations(self) -> list[Tensor]:
        """The tensors that all paths from the inputs to the outputs pass, in order.

        One sweep: such a tensor is the only one still to be read right after its node, in any topological
        order, because every node that depends on the inputs stands before or behind it.
        """
        ends = {*self.outputs}
        order = [
            *sorted(self.inputs),
            *(node for node in range(len(self.reads)) if node not in self.inputs and node not in ends),
            *self.outputs,
        ]
        place = {node: at for at, node in enumerate(order)}
        last: dict[Tensor, int] = {}
        made: dict[int, set[Tensor]] = {}
        for node, tensors in enumerate(self.reads):
            for tensor in tensors:
                last[tensor] = max(last.get(tensor, 0), place[node])
                made.setdefault(tensor[0], set()).add(tensor)
        waiting: set[Tensor] = set()
        found: list[Tensor] = []
        for at, node in enumerate(order[: len(order) - len(ends)]):
            waiting |= made.get(node, set())
            waiting -= {tensor for tensor in self.reads[node] if last[tensor] == at}
            if len(waiting) == 1 and at >= len(self.inputs) - 1:
                (tensor,) = waiting
                if not found or found[-1] != tensor:
                    found.append(tensor)
        return found

    def ancestors(self, tensors: Iterable[Tensor]) -> frozenset[int]:
        """The nodes that are needed to make these tensors."""
        found, _ = self._walk(tensors, stop=(), foreign=frozenset())
        return found

    def divide(self, starts: Collection[Tensor], ends: Collection[Tensor]) -> Division:
        """Cut in three: head up to ``starts``, core from there to ``ends``, tail behind them."""
        head = self.ancestors(starts)
        core, into_core = self._walk(ends, stop=starts, foreign=head)
        wanted = [tensor for node in self.outputs for tensor in self.reads[node]]
        tail, into_tail = self._walk(wanted, stop=ends, foreign=head | core)
        read = {*ends, *(tensor for node in core for tensor in self.reads[node])}
        unused = tuple(tensor for tensor in starts if tensor not in read)
        return Division(head, core, tail | {*self.outputs}, tuple(into_core), tuple(into_tail), unused)

    def _walk(
        self, tensors: Iterable[Tensor], *, stop: Collection[Tensor], foreign: frozenset[int]
    ) -> tuple[frozenset[int], list[Tensor]]:
        """Nodes that make ``tensors`` from those of ``stop``, and the other tensors this would read.

        These are tensors made by ``foreign`` nodes, and inputs of the graph.
        """
        found: set[int] = set()
        leaks: dict[Tensor, None] = {}
        todo = list(tensors)
        while todo:
            tensor = todo.pop()
            node = tensor[0]
            if tensor in stop:
                continue
            if node in foreign or (stop and node in self.inputs):
                leaks[tensor] = None
            elif node not in found:
                found.add(node)
                todo.extend(self.reads[node])
        return frozenset(found), sorted(leaks)
