"""Stage acquire: bring the images in and write the manifest."""
