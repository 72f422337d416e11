"""Articulation tensors and leaks, on graphs small enough to see."""

from __future__ import annotations

from cpuserve.authoring.graph_connectivity import Connectivity

# 0 input -> 1 -> 2 -> 3 add (reads 1 too) -> 4 -> 5 result
RESIDUAL = Connectivity(
    [(), ((0, 0),), ((1, 0),), ((2, 0), (1, 0)), ((3, 0),), ((4, 0),)], frozenset({0}), (5,)
)
# 0 input -> 1 -> 2 -> 4 result, 1 -> 3 -> 5 result
FORK = Connectivity([(), ((0, 0),), ((1, 0),), ((1, 0),), ((2, 0),), ((3, 0),)], frozenset({0}), (4, 5))


def test_a_branch_is_no_place_to_cut():
    assert RESIDUAL.articulations() == [(0, 0), (1, 0), (3, 0), (4, 0)]


def test_one_of_several_outputs_is_no_place_to_cut():
    assert FORK.articulations() == [(0, 0), (1, 0)]


def test_two_inputs_must_both_have_passed():
    both = Connectivity([(), (), ((0, 0), (1, 0)), ((2, 0),)], frozenset({0, 1}), (3,))
    assert both.articulations() == [(2, 0)]


def test_a_node_of_two_outputs_is_passed_by_neither_alone():
    split = Connectivity([(), ((0, 0),), ((1, 0), (1, 1)), ((2, 0),)], frozenset({0}), (3,))
    assert split.articulations() == [(0, 0), (2, 0)]


def test_a_cut_in_three():
    division = RESIDUAL.divide([(1, 0)], [(3, 0)])
    assert (division.head, division.core, division.tail) == ({0, 1}, {2, 3}, {4, 5})
    assert not (division.into_core or division.into_tail or division.unused)


def test_what_goes_round_the_core_is_found():
    assert RESIDUAL.divide([(2, 0)], [(4, 0)]).into_core == ((1, 0),)
    assert not RESIDUAL.divide([(2, 0), (1, 0)], [(4, 0)]).into_core


def test_what_goes_round_the_outputs_is_found():
    assert RESIDUAL.divide([(0, 0)], [(2, 0)]).into_tail == ((1, 0),)
    assert FORK.divide([(0, 0)], [(2, 0)]).into_tail == ((1, 0),)
    assert not FORK.divide([(0, 0)], [(2, 0), (3, 0)]).into_tail


def test_an_input_that_is_not_needed_is_found():
    assert FORK.divide([(1, 0), (3, 0)], [(2, 0)]).unused == ((3, 0),)


def test_a_second_input_of_the_graph_goes_round():
    both = Connectivity([(), ((0, 0),), (), ((1, 0), (2, 0)), ((3, 0),)], frozenset({0, 2}), (4,))
    assert both.divide([(1, 0)], [(3, 0)]).into_core == ((2, 0),)
