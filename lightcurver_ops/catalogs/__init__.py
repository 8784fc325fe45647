"""Star catalogues: where reference stars come from, and how they are chosen."""
