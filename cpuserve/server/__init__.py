"""The gunicorn server: seats, workers, model loading, reload and shutdown."""
