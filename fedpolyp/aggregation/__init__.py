"""What a round's updates are put into at the server: a running mean, or all of them side by side."""
