"""What a deployment at real hospitals needs besides Flower: certificates, folders, limits, audit log."""
