"""What a hospital does with a request: train or score on its own images, and keep what is its own."""
