"""Answers archives of pictures and videos into shards, and goes on where it was ended or killed."""
