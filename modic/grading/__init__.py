"""Regions to grades, and the places in the image that each grade rests on."""
