"""How images are assigned to hospitals: one file for each scheme."""
