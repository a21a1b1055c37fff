"""Federated algorithms, one file a paper, with both halves in it: what the server does and what a hospital does."""
