"""Using a trained model: its description, and its predictions in images."""
