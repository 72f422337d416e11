"""Networks from papers, built as graphs with random weights to measure machines with; none is trained."""
