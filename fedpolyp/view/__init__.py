"""A page for this machine only: the progress and results of runs, and their models' predictions in an image."""
