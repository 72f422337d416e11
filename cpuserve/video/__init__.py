"""Video: frames are decoded in parallel, scaled to what a model takes, and answered."""
