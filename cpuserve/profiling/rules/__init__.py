"""The rules that make findings, a family a module."""
