"""A page on this machine alone: how runs go, what they ended with, and what their models see in an image."""
