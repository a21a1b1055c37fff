"""The U-Net, its losses and its weights as named arrays."""
