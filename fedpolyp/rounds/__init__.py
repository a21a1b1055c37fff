"""The rounds of a run: the loop, what it checks of replies, and the observers of each round."""
