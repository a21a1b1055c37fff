"""How images are dealt to hospitals, one file a scheme."""
