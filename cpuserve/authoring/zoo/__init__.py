"""Networks from papers, built as graphs with random weights, to measure the speed of machines."""
