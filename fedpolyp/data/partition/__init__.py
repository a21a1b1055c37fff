"""Assigns images to the held-out set and to hospitals, and records who has which."""
