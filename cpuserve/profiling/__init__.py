"""Accounts for the time a served model takes, from several observers on one clock; it serves nothing."""
