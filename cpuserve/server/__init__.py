"""The gunicorn server: plans seats, forks and seats workers, loads models, reloads and stops."""
