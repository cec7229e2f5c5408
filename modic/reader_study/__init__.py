"""Readers against the model: the sample to read, the readings, the validation."""
