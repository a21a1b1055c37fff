"""Flower's simulation engine and Ray: every private hook of theirs has its one address here."""
