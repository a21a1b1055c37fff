"""The arms of a comparison: what federation is measured against."""
