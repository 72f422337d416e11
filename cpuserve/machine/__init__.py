"""What this process may use of the machine, and where each worker sits."""
