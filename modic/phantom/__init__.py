"""Synthetic spines, images and archives with known truth: for tests, benchmarks, training and a first impression.

`anatomy` makes a patient from a seed, `tissue_map` paints it, `physics` gives tissues their signal, `render` makes
volumes, `headers` writes what scanners write, `archive` a whole archive with its truth beside it.
"""
