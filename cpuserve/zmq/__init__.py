"""Frigate's detector over ZeroMQ: messages become calls, which wait and are answered as those of HTTP."""
