"""The audit: looks for faults in a folder of images, whether or not it could be ingested; changes nothing."""
