"""One run: prepare, survey the archive, plan shards, grade them in workers, publish."""
