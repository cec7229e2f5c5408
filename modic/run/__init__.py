"""A run over an archive, around the grading of one study (modic/pipeline.py). Its steps in order: publish.py."""
