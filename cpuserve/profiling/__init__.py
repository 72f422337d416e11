"""Records where the time of a served model goes and reports what to change."""
