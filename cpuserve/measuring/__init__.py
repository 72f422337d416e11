"""Puts load on a server and measures what it does: clients, windows, targets and result files."""
