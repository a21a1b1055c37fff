"""Deals images to the held-out set and to hospitals, and keeps who got which."""
