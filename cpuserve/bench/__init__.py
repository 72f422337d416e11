"""Measures servers and writes what it measured down; it serves nothing."""
