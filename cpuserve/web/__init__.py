"""HTTP: parse, call the serving core, map errors to statuses; no model is touched here."""
