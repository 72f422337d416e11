"""Measures this project itself; users do not need it and the wheel does not hold it."""
