"""Synthetic spines, images and archives whose truth is known: for tests, benchmarks, training and the demo.

`anatomy` makes a patient from a seed, `tissue_map` paints the tissues, `physics` gives them their signal, `render`
makes volumes, `headers` fills in headers as scanners do, `archive` writes a whole archive with its truth beside it.
"""
