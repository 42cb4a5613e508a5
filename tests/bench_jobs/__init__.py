"""`make bench-jobs`: what the journal costs, beside bare Celery and two workflow engines, measured in one run."""
