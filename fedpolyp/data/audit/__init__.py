"""The audit: looks for what is wrong with a folder of images, whether or not it could be ingested; changes nothing."""
