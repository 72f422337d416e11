"""Bytes become calls, over gRPC."""
