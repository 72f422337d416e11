"""What a call means and who may make it, for any transport."""
