"""A regular package, so that it comes before another one called tests that a dependency (PyCS3) installs."""
