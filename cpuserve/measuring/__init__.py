"""Load on a server, and what it did: clients, windows, targets and result files."""
