"""Differential privacy: what noise it takes, where the noise comes from, and what has been spent."""
