"""Regions to grades, and the places in the image that spoke for each grade."""
