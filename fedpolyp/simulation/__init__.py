"""Flower's simulation engine and Ray: each use of their private interfaces is in this package."""
