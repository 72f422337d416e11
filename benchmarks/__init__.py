"""Benchmarks of this project itself; the wheel does not contain them."""
