"""Cases to look at: their images, which come first, and the viewer."""
