"""What travels between the coordinator and hospitals, whatever carries it: requests, replies, packed arrays."""
