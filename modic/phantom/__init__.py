"""Synthetic spines, images and archives with known truth: for tests, benchmarks, training and a first impression."""
