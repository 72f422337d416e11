"""Bytes to calls and answers to bytes, over HTTP/1.1."""
