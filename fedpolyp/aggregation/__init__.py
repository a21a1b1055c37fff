"""How the server collects a round's updates: as a running mean, or all side by side."""
