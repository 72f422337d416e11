"""The offline half: models are fetched, converted, described and published here; nothing is served."""
