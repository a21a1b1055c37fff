"""The rounds of a run: the loop, its checks of replies, and the observers of each round."""
