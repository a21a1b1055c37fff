"""What a deployment at real hospitals needs beside Flower: certificates, folders, limits, audit log."""
