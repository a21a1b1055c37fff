"""From folders of images to arrays: stores, the phantom, hospitals and augmentation."""
