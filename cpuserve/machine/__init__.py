"""What this process may use of the machine, and the seat of each worker."""
