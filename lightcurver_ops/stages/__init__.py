"""The stages of the pipeline, one module each, and their order in pipeline.py."""
