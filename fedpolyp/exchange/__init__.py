"""What travels between the coordinator and hospitals, whatever carries it."""
