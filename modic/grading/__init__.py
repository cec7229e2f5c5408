"""Regions to grades, and where in the image the classifier saw them."""
