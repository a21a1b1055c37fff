"""Experiments: a single run, a comparison of arms, and what their scores show."""
