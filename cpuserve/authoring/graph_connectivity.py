"""Finds the tensors where a graph falls in two, and divides its nodes into head, core and tail."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Connectivity", "Division", "Tensor"]

Tensor = tuple[int, int]  # (node, which of its outputs)


@dataclass(frozen=True)
class Division:
    """The nodes of head, core and tail, and the tensors that stand against such a cut.

    Attributes:
        head: nodes before the inputs of the core.
        core: nodes between the inputs and the outputs of the core.
        tail: nodes after the outputs of the core.
        into_core: other tensors that the core reads.
        into_tail: other tensors that the tail reads.
        unused: inputs of the core that its outputs do not need.
    """

    head: frozenset[int]
    core: frozenset[int]
    tail: frozenset[int]
    into_core: tuple[Tensor, ...]
    into_tail: tuple[Tensor, ...]
    unused: tuple[Tensor, ...]


@dataclass(frozen=True)
class Connectivity:
    """Which node reads which tensor, without tensors that do not depend on the graph's inputs.

    Attributes:
        reads: the tensors each node reads, nodes in topological order; a constant reads none.
        inputs: nodes that are the graph's inputs.
        outputs: nodes at the end of the graph.
    """

    reads: Sequence[tuple[Tensor, ...]]
    inputs: frozenset[int]
    outputs: tuple[int, ...]

    def articulations(self) -> list[Tensor]:
        """The tensors that every path from the inputs to the outputs passes, in order.

        Such a tensor is the only one still to be read right after its node, in any topological order, because
        every node that depends on the inputs comes before it or after it.
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
        """The nodes that are needed to compute these tensors."""
        found, _ = self._walk(tensors, stop=(), foreign=frozenset())
        return found

    def divide(self, starts: Collection[Tensor], ends: Collection[Tensor]) -> Division:
        """Divides the nodes: head up to ``starts``, core from there to ``ends``, tail after them."""
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
        """Nodes that compute ``tensors`` from ``stop``, and the other tensors they would read.

        Those are tensors of ``foreign`` nodes, and inputs of the graph.
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
