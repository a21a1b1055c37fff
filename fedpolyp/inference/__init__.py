"""Using a trained model: what it says of itself, what it sees in images, and where."""
