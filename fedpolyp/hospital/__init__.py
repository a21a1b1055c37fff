"""What a hospital does with a request: it trains or scores on its own images, and keeps its private state."""
