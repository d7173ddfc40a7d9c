"""Stage explain: Grad-CAM maps of the test images."""
