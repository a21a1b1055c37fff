"""Federated algorithms, one file for each paper, with the server's half and the hospital's half."""
