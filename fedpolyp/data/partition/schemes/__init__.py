"""How images are assigned to hospitals, one file a scheme."""
