"""Stage segment: the objects in the test images."""
